"""Multiple choice against log-probabilities computed one candidate at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from answering import answers_of, tiny_loaded
from lora_da.loading import LoadedModel, load_rows
from lora_da_bench.tasks.choice import Choice
from lora_da_bench.tasks.item_losses import measure_item_losses

FORMATS = ["true/false", "answer1/answer2/answer3", "a / b"]
ROWS = datasets.Dataset.from_list(
    [
        {
            "instruction": f"Question {'really ' * index}number {index}? Answer format: x/y\n\nAnswer format: {names}",
            "input": "",
            "output": f"the correct answer is {names.split('/')[-1].strip()}",
            "answer": names.split("/")[-1].strip(),
        }
        for index, names in enumerate(FORMATS * 2)
    ]
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return tiny_loaded(tmp_path_factory.mktemp("model"))


def _log_probability(loaded: LoadedModel, question: str, completion: str) -> tuple[float, int]:
    """By the definition: no padding, float64; the byte-level tokenizer gives a token a byte."""
    prompt, whole = (loaded.tokenizer(text)["input_ids"] for text in (f"{question}\n", f"{question}\n{completion}"))
    ids = [*whole, loaded.tokenizer.eos_token_id]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    places = range(len(prompt), len(ids))
    return sum(logits[place - 1, ids[place]].item() for place in places), len(places)


def _sum_after(loaded: LoadedModel, prompt: str, completion: str) -> float:
    """The same where the completion begins with a space, which is part of it."""
    ids = [*loaded.tokenizer(prompt + completion)["input_ids"], loaded.tokenizer.eos_token_id]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(sum(logits[place - 1, ids[place]].item() for place in range(len(prompt), len(ids))))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_scores_are_log_probabilities_of_the_candidates(tiny: LoadedModel, batch_size: int) -> None:
    answers = answers_of(Choice(), tiny, ROWS, batch_size)
    for row, names, answer in zip(ROWS, FORMATS * 2, answers, strict=True):
        candidates = [name.strip() for name in names.split("/")]
        expected = [
            _log_probability(tiny, row["instruction"], f"the correct answer is {candidate}") for candidate in candidates
        ]
        assert [entry["candidate"] for entry in answer.output] == candidates
        assert [entry["score"] for entry in answer.output] == pytest.approx([score for score, _ in expected], rel=1e-5)
        assert [entry["tokens"] for entry in answer.output] == [tokens for _, tokens in expected]
        assert answer.predicted == candidates[max(range(len(expected)), key=lambda place: expected[place][0])]
        assert answer.expected == row["answer"]
        assert answer.correct == (answer.predicted == row["answer"])
    assert len({answer.correct for answer in answers}) == 2  # or the test would not see what is counted


def test_the_right_candidate_scores_what_training_learns(tiny: LoadedModel) -> None:
    task = Choice()
    losses = measure_item_losses(tiny.model, task.encode(ROWS, tiny.tokenizer), 4).losses
    for answer, loss in zip(answers_of(task, tiny, ROWS, 4), losses, strict=True):
        (score,) = [entry["score"] for entry in answer.output if entry["candidate"] == answer.expected]
        assert score == pytest.approx(-loss, rel=1e-5)


def test_candidates_of_their_own_column(tiny: LoadedModel) -> None:
    rows = datasets.Dataset.from_list([{"q": "Sky?", "text": "It is blue.", "right": "blue", "all": ["green", "blue"]}])
    task = Choice(prompt="q", completion="text", label="right", choices="all")
    (answer,) = answers_of(task, tiny, rows, 1)
    expected = [_log_probability(tiny, "Sky?", f"It is {colour}.")[0] for colour in ("green", "blue")]
    assert [entry["score"] for entry in answer.output] == pytest.approx(expected, rel=1e-5)


def test_rows_without_a_template(tiny: LoadedModel, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"prompt": "The sky is", "completion": " blue", "candidates": ["blue", "sky blue", "green"]}\n'
        '{"prompt": "2 + 2 =", "completion": " 4", "candidates": ["4", "5"]}\n'
    )
    rows = load_rows(str(file))
    task = Choice(prompt="prompt", completion="completion", label="completion", choices="candidates")
    task.check(rows)
    (example,) = task.encode(rows.select([0]), tiny.tokenizer).rows
    learnt = [token for token, label in zip(example["input_ids"], example["labels"], strict=True) if label >= 0]
    assert tiny.tokenizer.decode(learnt) == " blue</s>"
    for answer, row in zip(answers_of(task, tiny, rows, 2), rows, strict=True):
        assert [entry["candidate"] for entry in answer.output] == row["candidates"]
        expected = [_sum_after(tiny, row["prompt"], f" {candidate}") for candidate in row["candidates"]]
        assert [entry["score"] for entry in answer.output] == pytest.approx(expected, rel=1e-5)
        assert answer.expected == row["completion"].strip()
    wrong = rows.map(lambda row: {"completion": " red"})
    with pytest.raises(ValueError, match="Row 0: the answer 'red' is none of the candidates blue, sky blue, green"):
        task.check(wrong)


def test_candidates_stay_whole_where_training_cuts(tiny: LoadedModel) -> None:
    cut = answers_of(Choice(max_length=60), tiny, ROWS, 2)
    assert cut == answers_of(Choice(), tiny, ROWS, 2)


def test_scores_that_are_no_numbers_predict_nothing(tiny: LoadedModel, tmp_path: Path) -> None:
    broken = tiny_loaded(tmp_path)
    with torch.no_grad():
        broken.model.lm_head.weight[5] = math.nan
    answers = answers_of(Choice(), broken, ROWS, 2)
    assert {(answer.predicted, answer.correct) for answer in answers} == {(None, False)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction": "True or false?"}, "Row 1 has no list of two or more candidates in its prompt after"),
        ({"instruction": "Answer format: true"}, "Row 1 has no list of two or more candidates"),
        ({"instruction": "Answer format: true/"}, "Row 1 has no list of two or more candidates"),
        ({"answer": "maybe"}, "Row 1: the answer 'maybe' is none of the candidates answer1, answer2, answer3"),
        ({"output": "answer33"}, "Row 1: the answer 'answer3' must occur once .* it occurs 0 times"),
        ({"output": "answer3, yes, answer3"}, "Row 1: .* it occurs 2 times"),
        ({"output": None}, "Row 1 has no text in the column 'output'"),
    ],
)
def test_errors_name_the_row(tiny: LoadedModel, changes: dict[str, Any], message: str) -> None:
    rows = datasets.Dataset.from_list([ROWS[0], ROWS[1] | changes])
    with pytest.raises(ValueError, match=message):
        answers_of(Choice(), tiny, rows, 2)

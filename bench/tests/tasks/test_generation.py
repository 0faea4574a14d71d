"""Written answers: the prompt of training, the strict grader, and errors that name the row."""

from __future__ import annotations

from typing import Any

import datasets
import pytest

from answering import answers_of, tiny_loaded
from lora_da.loading import LoadedModel
from lora_da_bench.tasks import generation
from lora_da_bench.tasks.generation import Generation
from lora_da_bench.tasks.number_grading import read_reference

TASK = Generation(prompt="question", completion="answer", max_new_tokens=4)
ROWS = datasets.Dataset.from_list(
    [
        {"question": "1 + 1?", "answer": "It is 2.\n#### 2"},
        {"question": "How many?\n", "answer": "#### 1,234"},
        {"question": "2 + 2?", "answer": " four\n#### 4"},
    ]
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return tiny_loaded(tmp_path_factory.mktemp("model"))


def test_prompts_are_those_of_training(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []

    def write(model: Any, tokenizer: Any, given: list[str], *, max_new_tokens: int, batch_size: int) -> list[str]:
        assert (max_new_tokens, batch_size) == (4, 2)
        prompts.extend(given)
        return ["so #### 2", "#### 1234 pens\n#### 7", "I do not know"]

    monkeypatch.setattr(generation, "continue_prompts", write)
    answers = answers_of(TASK, tiny, ROWS, 2)
    assert [(answer.correct, answer.predicted, answer.expected) for answer in answers] == [
        (True, "2", "2"),
        (True, "1234", "1234"),
        (False, None, "4"),
    ]
    assert answers[2].output == "I do not know"
    assert TASK.score(answers) == {"accuracy": pytest.approx(2 / 3)}
    assert prompts == ["1 + 1?\n", "How many?\n", "2 + 2?"]
    examples = TASK.encode(ROWS, tiny.tokenizer).rows
    for prompt, example in zip(prompts, examples, strict=True):
        unlabelled = [token for token, label in zip(example["input_ids"], example["labels"], strict=True) if label < 0]
        assert tiny.tokenizer.decode(unlabelled) == prompt


def test_a_real_model_writes_the_same_at_every_batch_size(tiny: LoadedModel) -> None:
    found = [[a.output for a in answers_of(TASK, tiny, ROWS, size)] for size in (1, 3, 8)]
    assert found[0] == found[1] == found[2]
    assert any(found[0])


def test_errors_name_the_row(tiny: LoadedModel) -> None:
    bad = datasets.Dataset.from_list([ROWS[0], {"question": "2 + 2?", "answer": "four"}])
    with pytest.raises(ValueError, match="Row 1: The reference has no number after ####"):
        answers_of(TASK, tiny, bad, 2)
    empty = datasets.Dataset.from_list([ROWS[0], {"question": None, "answer": "#### 4"}])
    with pytest.raises(ValueError, match="Row 1 has no text in the column 'question'"):
        answers_of(TASK, tiny, empty, 2)
    with pytest.raises(ValueError, match="no column 'prompt'"):
        Generation().encode(ROWS, tiny.tokenizer)


@pytest.mark.parametrize(
    ("answer", "read"),
    [("1/2", "1/2"), ("2\\pi", "2"), ("\\frac{1}{2}", None), ("3\\sqrt{2}", None), ("x+1", None), ("(1, 2)", None)],
)
def test_expressions_are_no_answers(answer: str, read: str | None) -> None:
    rows = datasets.Dataset.from_list([{"question": "?", "answer": f"So it is.\n#### {answer}"}])
    if read is None:
        with pytest.raises(ValueError, match="Row 0: The reference has no number after ####"):
            TASK.check(rows)
    else:
        TASK.check(rows)
        assert read_reference(rows[0]["answer"]) == read

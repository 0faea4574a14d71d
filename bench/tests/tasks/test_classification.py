"""Classes against logits computed alone, scores against their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import datasets
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from answering import answers_of, tiny_loaded
from lora_da.loading import LoadedModel
from lora_da_bench.tasks.classification import Classification
from lora_da_bench.tasks.item_losses import measure_item_losses
from lora_da_bench.tasks.task import Answer

TEXTS = ["a fine film", "dull", "so very long and yet so good", "bad bad", "no", "it works wonders", "meh", "I slept"]
ROWS = datasets.Dataset.from_dict({"sentence": TEXTS, "label": [1, 0, 1, 0, 0, 1, 0, 1]})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.manual_seed(0)
    loaded = tiny_loaded(tmp_path_factory.mktemp("model"), head="classifier", num_labels=2)
    torch.nn.init.normal_(loaded.model.score.weight, generator=torch.Generator().manual_seed(3))
    return loaded


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_answers_are_those_of_each_text_alone(tiny: LoadedModel, batch_size: int) -> None:
    answers = answers_of(Classification(), tiny, ROWS, batch_size)
    for row, answer in zip(ROWS, answers, strict=True):
        with torch.no_grad():
            logits = tiny.model(**tiny.tokenizer(row["sentence"], return_tensors="pt")).logits[0].tolist()
        assert answer.output == pytest.approx(logits, rel=1e-4, abs=1e-5)
        assert answer.predicted == str(int(logits[1] > logits[0]))
        assert answer.expected == str(row["label"])
        assert answer.correct == (answer.predicted == answer.expected)
    assert len({answer.predicted for answer in answers}) == 2


def test_the_loss_of_a_row_is_that_of_its_class(tiny: LoadedModel) -> None:
    task = Classification()
    losses = measure_item_losses(tiny.model, task.encode(ROWS, tiny.tokenizer), 3)
    answers = answers_of(task, tiny, ROWS, 8)
    expected = [-torch.tensor(answer.output).log_softmax(0)[int(answer.expected)].item() for answer in answers]
    assert losses.losses == pytest.approx(expected, rel=1e-4)
    assert losses.labels == [1] * len(TEXTS)


def test_labels_may_be_words_and_texts_pairs(tiny: LoadedModel) -> None:
    rows = datasets.Dataset.from_dict({"a": ["x y", "z"], "b": ["u", "v"], "gold": ["no", "yes"]})
    task = Classification(text="a", pair="b", label="gold", classes=("no", "yes"), max_length=2)
    settings = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"], "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer.backend_tokenizer, **settings)
    prepared = task.encode(rows, tokenizer)
    examples = prepared.rows
    assert examples["labels"][:] == [0, 1]
    assert [len(ids) for ids in examples["input_ids"]] == [2, 2]
    assert "token_type_ids" in examples.column_names
    batch = prepared.collate(
        [*examples.to_list(), {"input_ids": [5], "attention_mask": [1], "token_type_ids": [0], "labels": 0}]
    )
    assert batch["token_type_ids"].shape == batch["input_ids"].shape == (3, 2)
    assert batch["input_ids"][2].tolist() == [5, tokenizer.eos_token_id]
    assert batch["attention_mask"][2].tolist() == [1, 0]
    assert batch["labels"].tolist() == [0, 1, 0]


def _answers(predicted: str, expected: str) -> list[Answer]:
    made = zip(predicted.replace("-", " "), expected, strict=True)
    return [Answer(p == e, None if p == " " else p, e, []) for p, e in made]


def test_scores_of_two_classes() -> None:
    # 3 true positives, 1 false positive, 2 false negatives, 2 true negatives.
    scores = Classification().score(_answers("11110000", "11101100"))
    assert scores["accuracy"] == 5 / 8
    assert scores["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert scores["matthews"] == pytest.approx((3 * 2 - 1 * 2) / math.sqrt(4 * 5 * 3 * 4))
    assert Classification(classes=("1", "0")).score(_answers("11110000", "11101100"))["f1"] == pytest.approx(4 / 7)


def test_scores_of_three_classes_and_of_no_prediction() -> None:
    scores = Classification(classes=("a", "b", "c")).score(_answers("aab-", "abbc"))
    assert scores["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert Classification().score(_answers("----", "0101")) == {"accuracy": 0.0, "f1": 0.0, "matthews": 0.0}


def test_logits_that_are_no_numbers_predict_nothing(tmp_path: Path) -> None:
    loaded = tiny_loaded(tmp_path, head="classifier", num_labels=2)
    torch.nn.init.constant_(loaded.model.score.weight, math.nan)
    answers = answers_of(Classification(), loaded, ROWS, 4)
    assert {(answer.predicted, answer.correct) for answer in answers} == {(None, False)}


def test_errors(tiny: LoadedModel) -> None:
    with pytest.raises(ValueError, match="Row 0 has the class '1'; the classes are no, yes"):
        Classification(classes=("no", "yes")).encode(ROWS, tiny.tokenizer)
    with pytest.raises(ValueError, match="no column 'text'; the columns are: sentence, label"):
        Classification(text="text").encode(ROWS, tiny.tokenizer)
    with pytest.raises(ValueError, match="the task has 3 classes, and the model gives 2 numbers"):
        answers_of(Classification(classes=("0", "1", "2")), tiny, ROWS, 4)
    assert Classification(classes=("0", "1", "2")).class_count == 3

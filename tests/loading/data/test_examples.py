"""Tokens and loss masks, checked by hand, and against a trainer of the model itself."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import trl
from transformers import AutoModelForCausalLM

from folders import tokenizer_in
from lora_da.loading.data.examples import PreparedExamples, prepare_examples
from lora_da.loading.data.row_format import RowFormat

MARKED = (
    "{% if tools %}[{% for t in tools %}{{ t.function.name }}{% endfor %}]{% endif %}{% for m in messages %}"
    "<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }};{% endgeneration %}"
    "{% else %}{{ m.content }};{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
TURNS = [("user", "Hi"), ("assistant", "Yes"), ("user", "Once"), ("assistant", "upon")]
MESSAGES = [{"role": role, "content": content} for role, content in TURNS]
WHOLE = "<user>Hi;<assistant>Yes;<user>Once;<assistant>upon;"
END = "</s>"


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return tokenizer_in(folder, MARKED)


def prepared(tokenizer: Any, *rows: dict[str, Any], **form: Any) -> PreparedExamples:
    return prepare_examples(datasets.Dataset.from_list(list(rows)), tokenizer, RowFormat(**form))


def in_words(tokenizer: Any, example: dict[str, list[int]]) -> tuple[str, str]:
    """An example's text, and what of it the loss counts."""
    counted = [label for label in example["labels"] if label != -100]
    assert all(label in (-100, token) for token, label in zip(example["input_ids"], example["labels"], strict=True))
    return tokenizer.decode(example["input_ids"]), tokenizer.decode(counted)


@pytest.mark.parametrize(
    ("row", "form", "text", "counted"),
    [
        ({"text": "Once"}, {}, "Once" + END, "Once" + END),
        ({"prompt": "2+3=", "completion": " 5"}, {}, "2+3= 5" + END, " 5" + END),
        ({"messages": MESSAGES}, {}, WHOLE, WHOLE),
        ({"messages": MESSAGES}, {"assistant_only_loss": True}, WHOLE, "Yes;upon;"),
        ({"prompt": MESSAGES[:3], "completion": MESSAGES[3:]}, {}, WHOLE, "upon;"),
        ({"messages": MESSAGES, "tools": [{"function": {"name": "f"}}]}, {}, "[f]" + WHOLE, "[f]" + WHOLE),
        ({"messages": MESSAGES, "tools": '[{"function": {"name": "f"}}]'}, {}, "[f]" + WHOLE, "[f]" + WHOLE),
        ({"text": "Once upon"}, {"max_length": 4}, "Once", "Once"),
    ],
)
def test_tokens_and_labels(row: dict[str, Any], form: dict[str, Any], text: str, counted: str, tokenizer: Any) -> None:
    (example,) = prepared(tokenizer, row, **form).rows
    assert in_words(tokenizer, example) == (text, counted)


def test_a_trainer_of_the_model_makes_the_same(folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + {n * n} =", "completion": f" {n + n * n}"} for n in range(20)]
    settings = trl.SFTConfig(output_dir=str(tmp_path), max_length=12, use_cpu=True, bf16=False, report_to="none")
    model = AutoModelForCausalLM.from_pretrained(folder)
    data = datasets.Dataset.from_list(rows)
    trainer: Any = trl.SFTTrainer(model, settings, train_dataset=data, processing_class=tokenizer)
    ours = prepared(tokenizer, *rows, max_length=12)
    expected = [{name: row[name] for name in ("input_ids", "labels")} for row in trainer.train_dataset]
    assert ours.rows.to_list() == expected
    assert all(
        torch.equal(value, trainer.data_collator(expected[:3])[key])
        for key, value in ours.collate(ours.rows.to_list()[:3]).items()
    )


def test_random_states_are_kept(tokenizer: Any) -> None:
    states = torch.get_rng_state(), random.getstate()
    prepared(tokenizer, {"text": "a"})
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()


def test_examples_cut_before_their_labels_are_left_out(tokenizer: Any) -> None:
    rows = [{"prompt": "abc " * n, "completion": "end"} for n in (1, 20, 1)]
    with pytest.warns(UserWarning, match="1 of 3 examples have no token to learn from within 10 tokens; raise"):
        assert prepared(tokenizer, *rows, max_length=10).lengths == [8, 8]
    with pytest.raises(ValueError, match="All of 1 examples have no token to learn from within 10 tokens"):
        prepared(tokenizer, rows[1], max_length=10)


def test_what_may_not_be_meant_is_told(tokenizer: Any) -> None:
    with pytest.warns(UserWarning, match="1 of 2 texts are empty, and left out"):
        assert len(prepared(tokenizer, {"text": " \n"}, {"text": "ab"})) == 1
    with pytest.raises(ValueError, match="All texts are empty"):
        prepared(tokenizer, {"text": ""})
    with pytest.warns(UserWarning, match="columns that are not read: id"):
        prepared(tokenizer, {"text": "a", "id": 1})
    with pytest.warns(UserWarning, match="1 of 1 prompts meet their completion without white space"):
        prepared(tokenizer, {"prompt": "a", "completion": "b"})


def test_batches_are_padded_shortest_first(tokenizer: Any) -> None:
    examples = prepared(tokenizer, {"text": "abc"}, {"text": "a"}, {"text": "ab"})
    examples = PreparedExamples(examples.rows, pickle.loads(pickle.dumps(examples.collate)))
    first, second = examples.batches(2)
    assert first["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert first["labels"][0].tolist() == [*first["input_ids"][0].tolist()[:2], -100]
    assert second["input_ids"].shape == (1, 4)
    assert {value.dtype for value in first.values()} == {torch.int64}

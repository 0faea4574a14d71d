"""Choosing columns, and loss masks checked by hand."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoTokenizer, ByT5Tokenizer

from lora_da.loading.data import Columns, collator, resolve_columns, tokenize

ROWS = [{"prompt": "2 + 3", "completion": "005"}, {"prompt": 'a "b", c\nd', "completion": "NA"}]
PAIRS = Columns(prompt="prompt", completion="completion")
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def tokenizer() -> Any:
    root = os.environ.get("LORA_DA_DATA")
    if root is None:
        pytest.skip("LORA_DA_DATA is not set: no tokenizer to load")
    folder = Path(root).parent / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("there is no models/stories260K beside $LORA_DA_DATA")
    return AutoTokenizer.from_pretrained(folder)


def _table(*rows: dict[str, Any]) -> datasets.Dataset:
    return datasets.Dataset.from_list(list(rows))


def test_columns_are_recognised_in_order() -> None:
    everything = ["text", "completion", "prompt", "messages"]
    assert resolve_columns(everything, Columns()) == Columns(messages="messages")
    assert resolve_columns(everything[:3], Columns()) == PAIRS
    assert resolve_columns(everything[:2], Columns()) == Columns(text="text")
    assert resolve_columns(["q", "a"], Columns("q", "a")) == Columns("q", "a")


@pytest.mark.parametrize(
    ("available", "requested", "message"),
    [
        (["q", "a"], Columns(), "columns are: q, a.*--prompt-column and --completion-column, or with --text-column"),
        (["q", "a"], Columns(text="body"), "no column 'body' for the text; the columns are: q, a"),
        (["q", "a"], Columns(prompt="q"), "name it with --completion-column"),
        (["q", "a"], Columns(completion="a"), "name it with --prompt-column"),
        (["q", "a"], Columns(prompt="q", text="a"), "prompt, text are named at once"),
    ],
)
def test_columns_that_do_not_fit(available: list[str], requested: Columns, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_columns(available, requested)


def test_text_counts_everywhere(tokenizer: Any) -> None:
    example = tokenize(_table({"text": "Once upon"}), tokenizer, Columns(text="text"), 50)[0]
    assert example == {"input_ids": [1, 403, 407, 2], "attention_mask": [1] * 4, "labels": [1, 403, 407, 2]}


@pytest.mark.parametrize(
    ("prompt", "completion", "joined", "learnt"),
    [
        ("Once upon", " a time", "Once upon a time", " a time"),
        ("Once upon ", "a time", "Once upon a time", " a time"),  # the space is one token with the completion's "a"
        ("Once upon", "a time", "Once upon\na time", "a time"),
        ("Once upon\n", "a time", "Once upon\na time", "a time"),
        ("Once up", "\non", "Once up\non", "\non"),
    ],
)
def test_loss_counts_the_completion(prompt: str, completion: str, joined: str, learnt: str, tokenizer: Any) -> None:
    example = tokenize(_table({"prompt": prompt, "completion": completion}), tokenizer, PAIRS, 50)[0]
    ids, labels = example["input_ids"], example["labels"]
    assert ids == [*tokenizer(joined)["input_ids"], tokenizer.eos_token_id]
    first = next(place for place, label in enumerate(labels) if label != -100)
    assert labels == [-100] * first + ids[first:]
    pieces = tokenizer.convert_ids_to_tokens(ids[first:-1])
    assert "".join(pieces).replace("▁", " ").replace("<0x0A>", "\n") == learnt


def test_a_token_across_the_border_is_learnt(tokenizer: Any) -> None:
    # "upon " ends in a space that is one token with the "a" after it, so that token is learnt whole.
    example = tokenize(_table({"prompt": "Once upon ", "completion": "a"}), tokenizer, PAIRS, 50)[0]
    assert example == {"input_ids": [1, 403, 407, 261, 2], "attention_mask": [1] * 5, "labels": [-100] * 3 + [261, 2]}


def test_slow_tokenizer_counts_the_same() -> None:
    slow = ByT5Tokenizer()  # bytes plus 3; ends every text with EOS (1) by itself
    example = tokenize(_table({"prompt": "ab", "completion": "c"}), slow, PAIRS, 50)[0]
    assert example["input_ids"] == [100, 101, 13, 102, 1]
    assert example["labels"] == [-100, -100, -100, 102, 1]
    assert tokenize(_table({"text": "ab"}), slow, Columns(text="text"), 50)[0]["input_ids"] == [100, 101, 1]


@pytest.mark.parametrize("split", [False, True])
def test_conversation_counts_the_last_answer(split: bool, tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    turns = [("user", "Hi"), ("assistant", "Yes"), ("user", "Once"), ("assistant", "upon a time")]
    messages = [{"role": role, "content": content} for role, content in turns]
    if split:
        table, columns = _table({"prompt": messages[:3], "completion": messages[3:]}), PAIRS
    else:
        table, columns = _table({"messages": messages}), Columns(messages="messages")
    example = tokenize(table, tokenizer, columns, 200)[0]
    whole = "<user>Hi\n<assistant>Yes\n<user>Once\n<assistant>upon a time\n"
    assert example["input_ids"] == tokenizer(whole, add_special_tokens=False)["input_ids"]
    learnt = tokenizer.convert_ids_to_tokens([label for label in example["labels"] if label != -100])
    assert "".join(learnt).replace("▁", " ").replace("<0x0A>", "\n") == "upon a time\n"


@pytest.mark.parametrize(
    ("turns", "template", "message"),
    [
        ([("user", "a"), ("assistant", "b")], None, "no chat template"),
        ([("user", "a")], TEMPLATE, "Row 0 is no conversation that ends with the assistant"),
        ([("assistant", "a")], TEMPLATE, "Row 0 is no conversation"),
        ([], TEMPLATE, "Row 0"),
        ([("user", "a"), ("assistant", "")], TEMPLATE, "Row 0 ends with an empty message"),
        ([("user", "a"), ("assistant", "b")], "{{ messages | length }}", "cannot be told apart"),
    ],
)
def test_conversations_that_do_not_fit(
    turns: list[tuple[str, str]], template: str | None, message: str, tokenizer: Any
) -> None:
    tokenizer.chat_template = template
    messages = [{"role": role, "content": content} for role, content in turns]
    with pytest.raises(ValueError, match=message):
        tokenize(_table({"messages": messages}), tokenizer, Columns(messages="messages"), 50)


def test_examples_cut_before_their_labels_are_dropped(tokenizer: Any) -> None:
    rows = [{"prompt": "Once upon a time " * n, "completion": "the end"} for n in (1, 20, 1)]
    with pytest.warns(UserWarning, match="1 of 3 examples have no token to learn from within 10 tokens; raise"):
        examples = tokenize(_table(*rows), tokenizer, PAIRS, 10)
    assert len(examples) == 2
    assert all(len(ids) <= 10 for ids in examples["input_ids"])
    with pytest.raises(ValueError, match="All of 1 examples have no token to learn from within 10 tokens"):
        tokenize(_table(rows[1]), tokenizer, PAIRS, 10)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "completion": ""}, "Row 1 has an empty completion"),
        ({"prompt": "a", "completion": " \n"}, "Row 1 has an empty completion"),
        ({"prompt": None, "completion": "b"}, "Row 1 has no prompt"),
        ({"prompt": "a", "completion": None}, "Row 1 has no completion"),
    ],
)
def test_incomplete_rows_are_named(row: dict[str, Any], message: str, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match=message):
        tokenize(_table(ROWS[0], row), tokenizer, PAIRS, 50)


def test_wrong_types_are_named(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="Row 0 has prompt of type str, completion of type int"):
        tokenize(_table({"prompt": "a", "completion": 3}), tokenizer, PAIRS, 50)
    with pytest.raises(ValueError, match="Row 0 has messages of type str"):
        tokenize(_table({"text": "a"}), tokenizer, Columns(messages="text"), 50)
    with pytest.raises(ValueError, match="Row 0 has text of type list"):
        tokenize(_table({"text": ["a"]}), tokenizer, Columns(text="text"), 50)


def test_tokenizer_without_end_token(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match=r"set tokenizer\.eos_token"):
        tokenize(_table({"text": "a"}), tokenizer, Columns(text="text"), 50)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"set tokenizer\.pad_token"):
        collator(tokenizer)


def test_batches_are_padded(tokenizer: Any) -> None:
    examples = [
        {"input_ids": [1, 7, 8, 2], "attention_mask": [1] * 4, "labels": [-100, 7, 8, 2]},
        {"input_ids": [1, 2], "attention_mask": [1] * 2, "labels": [-100, 2]},
    ]
    batch = pickle.loads(pickle.dumps(collator(tokenizer)))(examples)
    assert batch["input_ids"].tolist() == [[1, 7, 8, 2], [1, 2, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 7, 8, 2], [-100, 2, -100, -100]]
    assert {value.dtype for value in batch.values()} == {torch.int64}
    tokenizer.pad_token = None
    assert collator(tokenizer)(examples)["input_ids"].tolist() == [[1, 7, 8, 2], [1, 2, 2, 2]]
    assert tokenizer.pad_token is None


def test_loader_takes_the_tokenised_rows(tokenizer: Any) -> None:
    examples = tokenize(_table(*ROWS), tokenizer, PAIRS, 50)
    (batch,) = torch.utils.data.DataLoader(examples, batch_size=2, collate_fn=collator(tokenizer))
    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    assert batch["attention_mask"].sum().item() == sum(map(len, examples["input_ids"]))

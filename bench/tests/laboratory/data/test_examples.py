from __future__ import annotations

import torch

from lora_da_bench.laboratory.data.examples import Examples
from models import PADDING, VOCABULARY, classified_examples, collate, tiny_bert, tiny_llama

BLOCKS = torch.randint(3, VOCABULARY, (5, 6), generator=torch.Generator().manual_seed(0))


def classified(count: int = 5, width: int = 12) -> Examples:
    """Texts of several lengths, padded to more than the longest."""
    found = collate(classified_examples(count))
    missing = width - found["input_ids"].shape[1]
    ids = torch.nn.functional.pad(found["input_ids"], (0, missing), value=PADDING)
    return Examples(ids, torch.nn.functional.pad(found["attention_mask"], (0, missing)), found["labels"])


def test_each_block_has_its_own_loss() -> None:
    model, examples = tiny_llama(), Examples(BLOCKS, torch.ones_like(BLOCKS))
    expected = torch.stack([model(input_ids=block[None], labels=block[None]).loss for block in BLOCKS])
    torch.testing.assert_close(examples.losses(model), expected, rtol=1e-4, atol=1e-5)
    assert examples.labels_each == 5


def test_each_text_has_its_own_loss_whatever_the_padding() -> None:
    model, examples = tiny_bert(), classified()
    expected = []
    for row in classified_examples(5):
        expected.append(model(input_ids=row["input_ids"][None], labels=row["labels"][None]).loss)
    torch.testing.assert_close(examples.losses(model), torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert examples.labels_each == 1


def test_batches_keep_the_order_and_what_belongs_together() -> None:
    examples = classified()
    parts = list(examples.split(2))
    assert [len(part) for part in parts] == [2, 2, 1]
    picked = examples[torch.tensor([3, 1])]
    for row, index in zip(range(2), (3, 1), strict=True):
        own = classified_examples(5)[index]
        batch = picked[row : row + 1].batch()
        assert torch.equal(batch["input_ids"][0], own["input_ids"])
        assert torch.equal(batch["labels"][0], own["labels"])

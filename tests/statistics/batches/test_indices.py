from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from lora_da import collect_statistics, initialize_lora_da_weights
from lora_da.losses import CausalLM
from lora_da.statistics.batches.indices import check_indices
from models import (
    causal_examples,
    classified_examples,
    collate,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    tiny_opt,
    with_lora,
)


def test_a_padding_id_outside_of_the_vocabulary_is_named() -> None:
    batch = collate(causal_examples(4), padding=37)
    with pytest.raises(
        ValueError, match=r"index 37 .* model\.embed_tokens\.weight, which has 37 entries: .* padding id"
    ):
        collect_statistics(tiny_llama(), [batch], progress=False)


@pytest.mark.parametrize("budget", ["auto", "24KB"])  # with the second, which layers share an input is found out first
@pytest.mark.parametrize("loss", [None, CausalLM()])
@pytest.mark.parametrize("position", [0, 4])
def test_an_id_outside_of_the_vocabulary_is_named_wherever_it_is_met_first(
    position: int, loss: CausalLM | None, budget: str
) -> None:
    batch = collate(causal_examples(4))
    batch["input_ids"][:, position] = 37
    with pytest.raises(ValueError, match=r"index 37 is looked up in .*embed_tokens\.weight"):
        initialize_lora_da_weights(
            with_lora(tiny_llama()), [batch], example_loss=loss, memory_budget=budget, progress=False
        )


@pytest.mark.parametrize(("make", "name"), [(tiny_gpt2, "wpe"), (tiny_opt, "embed_positions")])
def test_examples_longer_than_the_learned_positions_are_named(make: object, name: str) -> None:
    model = make()  # type: ignore[operator]
    ids = torch.full((2, 70), 5)
    with pytest.raises(ValueError, match=rf"index \d+ is looked up in .*{name}.*longer than the positions"):
        collect_statistics(model, [{"input_ids": ids, "labels": ids}], progress=False)


def test_labels_that_the_loss_leaves_out_need_be_no_class() -> None:
    logits, labels = torch.zeros(2, 3), torch.tensor([3, 1])
    with check_indices(tiny_llama()):
        assert F.cross_entropy(logits, labels, ignore_index=3) == pytest.approx(math.log(3))


def test_indices_within_their_embeddings_change_nothing() -> None:
    model, ids = tiny_llama(), torch.full((2, 5), 36)
    with check_indices(model):
        checked = model(input_ids=ids).logits
    assert torch.equal(checked, model(input_ids=ids).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int32])
def test_labels_of_another_type_are_named(dtype: torch.dtype) -> None:
    with (
        check_indices(tiny_llama()),
        pytest.raises(ValueError, match=rf"the labels are in {dtype}, where classes or tokens are told apart"),
    ):
        F.cross_entropy(torch.zeros(2, 3), torch.ones(2, dtype=dtype))


@pytest.mark.parametrize("wrong", [37, -1])
def test_labels_that_are_no_class_are_named(wrong: int) -> None:
    batch = collate(causal_examples(4))
    batch["labels"][0, 2] = wrong
    with pytest.raises(ValueError, match=rf"label {wrong} is none of the 37 classes, or tokens"):
        collect_statistics(tiny_llama(), [batch], progress=False)
    batch = collate(classified_examples(4)) | {"labels": torch.tensor([0, 1, 3, 2])}
    with pytest.raises(ValueError, match="label 3 is none of the 3 classes"):
        collect_statistics(tiny_bert(), [batch], progress=False)

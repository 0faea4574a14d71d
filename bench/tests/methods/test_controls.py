"""Each control keeps of LoRA-DA what it says and destroys the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_da_bench.methods.controls import shuffle_labels
from methods.setups import KINDS, initialised, layers_in, setup_of
from models import batches_of, causal_examples
from oracles import largest_angle


def _rows(matrix: Tensor) -> Tensor:
    Q: Tensor = torch.linalg.qr(matrix.T)[0]
    return Q.T


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_norm_matched_keeps_norms_alone(kind: str) -> None:
    found, lora_da = (layers_in(initialised(name, setup_of(kind))) for name in ("random-norm-matched", "lora-da"))
    for name, layer in found.items():
        for mine, theirs in ((layer.A, lora_da[name].A), (layer.B, lora_da[name].B)):
            torch.testing.assert_close(mine.norm(), theirs.norm(), rtol=1e-6, atol=0)
            assert abs(float((mine * theirs).sum() / mine.norm() / theirs.norm())) < 0.7
        mine, theirs = (torch.linalg.svdvals(x.B @ x.A)[:2] for x in (layer, lora_da[name]))
        assert not torch.allclose(mine, theirs, rtol=1e-2)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_random_subspaces_keep_norms_and_spectra(kind: str) -> None:
    found, lora_da = (layers_in(initialised(name, setup_of(kind))) for name in ("random-subspace", "lora-da"))
    for name, layer in found.items():
        theirs = lora_da[name]
        for found_part, wanted in ((layer.A, theirs.A), (layer.B, theirs.B), (layer.B @ layer.A, theirs.B @ theirs.A)):
            values = torch.linalg.svdvals(wanted)
            torch.testing.assert_close(torch.linalg.svdvals(found_part), values, rtol=1e-5, atol=1e-6)
        assert largest_angle(_rows(layer.A), _rows(theirs.A)) > 0.3
        assert largest_angle(_rows(layer.B.T), _rows(theirs.B.T)) > 0.3


def test_random_subspaces_are_uniform() -> None:
    """The mean projector onto a uniformly distributed line or plane is a multiple of the identity."""
    from lora_da_bench.methods.controls import _turned

    generator = torch.Generator().manual_seed(0)
    A, B = torch.eye(1, 4, dtype=torch.float64), torch.eye(3, 1, dtype=torch.float64)
    turned = [_turned(A, B, generator) for _ in range(4000)]
    lines = torch.stack([row.T @ row for row, _ in turned]).mean(0)
    torch.testing.assert_close(lines, torch.eye(4, dtype=torch.float64) / 4, rtol=0, atol=0.03)
    mean = torch.stack([row for row, _ in turned]).mean(0)
    assert mean.abs().max() < 0.05  # no sign is preferred
    columns = torch.stack([column @ column.T for _, column in turned]).mean(0)
    torch.testing.assert_close(columns, torch.eye(3, dtype=torch.float64) / 3, rtol=0, atol=0.03)


@pytest.mark.parametrize("kind", ["llama"])
def test_zero_b_keeps_a(kind: str) -> None:
    found, lora_da = (layers_in(initialised(name, setup_of(kind))) for name in ("lora-da-zero-b", "lora-da"))
    for name, layer in found.items():
        assert torch.equal(layer.A, lora_da[name].A)
        assert lora_da[name].B.any()
        assert not layer.B.any()


@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_labels_keep_inputs_places_and_counts(kind: str) -> None:
    batches = setup_of(kind).batches
    shuffled = shuffle_labels(batches, 0)
    all_labels, all_shuffled = [], []
    for batch, other in zip(batches, shuffled, strict=True):
        assert batch.keys() == other.keys()
        assert all(torch.equal(batch[key], other[key]) for key in batch if key != "labels")
        assert torch.equal(batch["labels"] == -100, other["labels"] == -100)
        all_labels.append(batch["labels"].flatten())
        all_shuffled.append(other["labels"].flatten())
    before, after = torch.cat(all_labels), torch.cat(all_shuffled)
    assert not torch.equal(before, after)
    assert torch.equal(before.sort().values, after.sort().values)
    again, others = shuffle_labels(batches, 0), shuffle_labels(batches, 1)
    assert all(torch.equal(one["labels"], two["labels"]) for one, two in zip(shuffled, again, strict=True))
    assert any(not torch.equal(one["labels"], two["labels"]) for one, two in zip(shuffled, others, strict=True))


def test_labels_move_between_batches() -> None:
    batches = batches_of(causal_examples(40), size=1)
    moved = 0
    for batch, other in zip(batches, shuffle_labels(batches, 0), strict=True):
        moved += set(other["labels"].flatten().tolist()) != set(batch["labels"].flatten().tolist())
    assert moved > 30


@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_labels_are_what_lora_da_gets(kind: str) -> None:
    import dataclasses

    setup = setup_of(kind)
    other = dataclasses.replace(setup_of(kind), batches=shuffle_labels(setup.batches, setup.seed))
    wanted, found = layers_in(initialised("lora-da", other)), layers_in(initialised("lora-da-shuffled-labels", setup))
    assert all(torch.equal(layer.A, wanted[name].A) for name, layer in found.items())

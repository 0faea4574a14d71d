"""Controls: LoRA-DA with its knowledge of the data taken away piece by piece."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lora_da_bench.methods.adapters import find_factors, write_factors
from lora_da_bench.methods.lora_da import initialise_lora_da
from lora_da_bench.methods.method import Method, Setup

# From LoRA-DA's A (r, d_in) and B (d_out, r), float64 on the CPU, to other ones.
_Change = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def _changed(change: _Change) -> Callable[[Setup], nn.Module]:
    def initialise(setup: Setup) -> nn.Module:
        model = initialise_lora_da(setup)
        generator = torch.Generator().manual_seed(setup.seed)
        pairs = {name: tuple(f.detach().cpu().double() for f in pair) for name, pair in find_factors(model).items()}
        write_factors(model, {name: change(A, B, generator) for name, (A, B) in pairs.items()})
        return model

    return initialise


def _norm_matched(A: Tensor, B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    def like(matrix: Tensor) -> Tensor:
        random = torch.randn(matrix.shape, generator=generator, dtype=matrix.dtype)
        scaled: Tensor = random * (torch.linalg.matrix_norm(matrix) / torch.linalg.matrix_norm(random))
        return scaled

    return like(A), like(B)


def _turned(A: Tensor, B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A Q₁ and Q₂ B for random rotations: only the spaces that they span change."""

    def turn(tall: Tensor) -> Tensor:
        # A rotated basis of the columns' span is a random one: the rotation (d × d) need not be made.
        frame, core = torch.linalg.qr(tall)
        basis, triangle = torch.linalg.qr(torch.randn(frame.shape, generator=generator, dtype=tall.dtype))
        turned: Tensor = (basis * triangle.diagonal().sign()) @ core  # with these signs, uniformly distributed
        return turned

    return turn(A.mT).mT, turn(B)


def shuffle_labels(batches: Sequence[Mapping[str, Tensor]], seed: int) -> list[dict[str, Tensor]]:
    """Permute the labels of the whole sample, token by token or example by example.

    What is no label (-100) stays where it is, and the inputs stay.
    """
    labelled = [batch["labels"] != -100 for batch in batches]
    labels = torch.cat([batch["labels"][mask] for batch, mask in zip(batches, labelled, strict=True)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    shuffled = []
    for batch, mask in zip(batches, labelled, strict=True):
        own, labels = labels[: int(mask.sum())], labels[int(mask.sum()) :]
        shuffled.append(dict(batch) | {"labels": batch["labels"].masked_scatter(mask, own)})
    return shuffled


def _from_shuffled_labels(setup: Setup) -> nn.Module:
    return initialise_lora_da(dataclasses.replace(setup, batches=shuffle_labels(setup.batches, setup.seed)))


METHODS = (
    Method(
        "random-norm-matched",
        "Control: Gaussian A and B with the norms of LoRA-DA's, layer by layer",
        _changed(_norm_matched),
        uses_data=True,
    ),
    Method(
        "random-subspace",
        "Control: LoRA-DA's A and B turned into random subspaces, with the same norms and the same singular values of "
        "B·A",
        _changed(_turned),
        uses_data=True,
    ),
    Method(
        "lora-da-shuffled-labels",
        "Control: LoRA-DA from the same inputs with the sample's labels permuted",
        _from_shuffled_labels,
        uses_data=True,
    ),
)

"""The loss of each example by itself, which paired comparisons are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from lora_da.loading import PreparedExamples

_IGNORED = -100
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class ItemLosses:
    """The loss of each example by itself.

    Attributes:
        losses: Its sum over the example's labels, in nats; infinite or not a number where the model's logits are.
        labels: How many labels that is: tokens, or 1 for a class.
    """

    losses: list[float]
    labels: list[int]

    @property
    def mean(self) -> float:
        """Loss per label over all examples."""
        return sum(self.losses) / sum(self.labels)


def measure_item_losses(model: nn.Module, examples: PreparedExamples, batch_size: int) -> ItemLosses:
    """Measure the loss of each example, which depends on the others of its batch by rounding alone.

    The batches, of examples of like length, are the same for every model.

    Args:
        model: A causal language model or a classifier of transformers, or a PEFT model around one; its modes are as
            before afterwards.
        examples: With the labels of tokens, or one of a class each.
        batch_size: Examples at once.
    """
    device = next(model.parameters()).device
    found: list[tuple[float, int]] = []
    with evaluation_mode(model), torch.no_grad():
        for batch in examples.batches(batch_size):
            labels = batch["labels"].to(device)
            logits = model(**{name: value.to(device) for name, value in batch.items() if name != "labels"}).logits
            if labels.ndim == 2:  # the logits of a position predict the next token
                logits, labels = logits[:, :-1], labels[:, 1:]
            rows = zip(logits, labels, strict=True)
            found += [_loss_of(row.reshape(-1, row.shape[-1]), own.reshape(-1)) for row, own in rows]
    in_order = restore_order(found, examples)
    return ItemLosses([loss for loss, _ in in_order], [count for _, count in in_order])


def _loss_of(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    """The summed loss of one example and the number of its labels; float32 copies are of its labelled rows alone."""
    counted = labels != _IGNORED
    loss = nn.functional.cross_entropy(logits[counted].float(), labels[counted], reduction="sum")
    return float(loss), int(counted.sum())


def restore_order(found: list[_Found], examples: PreparedExamples) -> list[_Found]:
    """Bring what was found batch by batch, the shortest examples first, into the order of the examples."""
    lengths = examples.lengths
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    restored = dict(zip(order, found, strict=True))
    return [restored[index] for index in range(len(order))]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

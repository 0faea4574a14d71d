"""The loss of each example by itself, which paired comparisons are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_IGNORED = -100


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
        """Loss per label over all examples.

        Raises:
            ValueError: There are no examples.
        """
        if not self.losses:
            raise ValueError("There are no examples to take a loss of; check the data set and its maximum length.")
        return sum(self.losses) / sum(self.labels)


def measure_item_losses(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> ItemLosses:
    """Measure the loss of each example, which does not depend on the others of its batch.

    Args:
        model: A causal language model or a classifier of transformers, or a PEFT model around one; its modes are as
            before afterwards.
        batches: Mappings with ``labels``, (B, S) of tokens or (B,) of classes, and the model's inputs, padded on the
            right and on any device.

    Raises:
        ValueError: An example has no label.
    """
    device = next(model.parameters()).device
    losses: list[float] = []
    counts: list[int] = []
    with evaluation_mode(model), torch.no_grad():
        for batch in batches:
            labels = batch["labels"].to(device)
            logits = model(**{name: value.to(device) for name, value in batch.items() if name != "labels"}).logits
            if labels.ndim == 2:  # the logits of a position predict the next token
                logits, labels = logits[:, :-1], labels[:, 1:]
            for row_logits, row_labels in zip(logits, labels, strict=True):
                loss, count = _loss_of(row_logits.reshape(-1, logits.shape[-1]), row_labels.reshape(-1))
                losses.append(loss)
                counts.append(count)
    return ItemLosses(losses, counts)


def _loss_of(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    """The summed loss of one example and the number of its labels; float32 copies are of its labelled rows alone."""
    counted = labels != _IGNORED
    if not bool(counted.any()):
        raise ValueError("An example has no label token, so there is no loss to take; leave it out.")
    loss = nn.functional.cross_entropy(logits[counted].float(), labels[counted], reduction="sum")
    return float(loss), int(counted.sum())


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

"""What a loss is to the library: each example's by itself, from the model's output and the batch.

The library never uses ``model(...).loss``: its mean runs over the batch, so that it depends on the batch size, and it
holds auxiliary losses such as router balancing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

ExampleLoss = Callable[[Any, Mapping[str, Any]], Tensor]
"""A function of the model's output and the batch that returns the examples' losses, (examples,), in nats.

Attributes of the function may say more; the losses of :mod:`lora_da.losses` have those that they need:

- ``rows_per_example``: how many rows of the batch one example has, 2 for pairs. With m examples, the rows of example i
  are i, m + i, 2 m + i and so on. Without it, batches are never cut, since nobody knows what belongs together.
- ``batch_dependent = True``: an example's loss depends on the others of its batch (in-batch negatives).
- ``own_entries``: names of entries of the batch that are the loss's, and not given to the model.
- ``refer``: a function of (output of the base model, batch) that returns entries which the loss needs beside the
  batch's own, such as a reference's log-probabilities. They are computed once, before anything else.
"""


def find_logits(output: Any) -> Tensor:
    """Return the logits of a model's output.

    Raises:
        ValueError: It has none; the message names what it has.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    held = list(output) if isinstance(output, Mapping) else type(output).__name__
    raise ValueError(
        f"the model's output has no logits, but {held}: give example_loss, a function of (model output, batch) that "
        "returns each example's loss; lora_da.losses has several"
    )


def find_rows_per_example(loss: ExampleLoss | None) -> int | None:
    """Return how many rows of a batch are one example; None where a loss of one's own does not say so."""
    rows: int | None = 1 if loss is None else getattr(loss, "rows_per_example", None)
    return rows


def couples_examples(loss: ExampleLoss | None) -> bool:
    """Tell whether an example's loss depends on the others of its batch, according to the loss."""
    return bool(getattr(loss, "batch_dependent", False))


def find_own_entries(loss: ExampleLoss | None) -> frozenset[str]:
    """Return the names of the batch's entries that the model is not given."""
    return frozenset(getattr(loss, "own_entries", ()))


def describe_settings(loss: ExampleLoss | None) -> str | None:
    """Return all that decides about a loss of this library; None of one's own, whose code can be anything."""
    return repr(loss) if loss is None or _is_plain(loss) else None


def name_loss(loss: ExampleLoss | None) -> str:
    """Return the settings of a loss of this library, or the name of one's own."""
    named = loss if hasattr(loss, "__qualname__") else type(loss)
    return describe_settings(loss) or f"{named.__module__}.{getattr(named, '__qualname__')}"  # noqa: B009


def _is_plain(value: Any) -> bool:
    """Whether a value's ``repr`` tells all of it: a plain one, or a dataclass of this library with plain fields."""
    if dataclasses.is_dataclass(value) and type(value).__module__.split(".")[0] == __name__.split(".")[0]:
        return all(_is_plain(getattr(value, field.name)) for field in dataclasses.fields(value))
    return value is None or isinstance(value, bool | int | float | str)

"""Which rows of a layer's input and output gradient are tokens of which kind.

A batch of B examples padded to L positions reaches a layer as B·L rows. Padding is left out by indexing, never by
multiplying with zero, since padded positions may hold NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The rows of one layer call that are used.

    Attributes:
        attended: Indices of the rows that are not padding, (n,); None stands for all rows.
        counted: Indices of the rows that enter the Fisher factors, (T,); None stands for the attended ones.
    """

    attended: Tensor | None
    counted: Tensor | None


@dataclass(frozen=True)
class Positions:
    """The positions of one batch, on one side of the model (encoder or decoder).

    Attributes:
        examples: B.
        mask: True where a position is not padding, (B, L); None without a mask: nothing is padding.
        predicting: True where a position predicts a label, (B, L); None if all attended positions are counted.
    """

    examples: int
    mask: Tensor | None
    predicting: Tensor | None = None

    def __post_init__(self) -> None:
        # Found once a batch, since looking for indices waits for the device.
        mask, predicting = self.mask, self.predicting
        attended = None if mask is None or bool(mask.all()) else mask.flatten().nonzero().squeeze(1)
        counted = None
        if predicting is not None:
            counted = (predicting if mask is None else predicting & mask).flatten().nonzero().squeeze(1)
        object.__setattr__(self, "_rows", Rows(attended, counted))

    def fits(self, shape: torch.Size) -> bool:
        """Whether a layer input of this shape, (..., d_in), has one row a position."""
        known = self.mask if self.mask is not None else self.predicting
        return known is not None and shape[:-1].numel() == known.numel()

    def rows(self, layer: str, shape: torch.Size) -> Rows:
        """The rows of a layer input of the given shape, (..., d_in).

        Raises:
            ValueError: The input has neither one row a position nor one an example, and some positions are padding.
        """
        rows: Rows = self._rows  # type: ignore[attr-defined]
        if self.fits(shape):
            return rows
        if shape[:-1].numel() == self.examples and rows.counted is None:
            return Rows(None, None)  # behind a pooling: one row an example
        if rows.attended is None and rows.counted is None:
            return rows  # nothing is padding, so every row counts, whatever it stands for
        raise ValueError(
            f"layer {layer} has an input of shape {tuple(shape)}, but the batch has {self.examples} examples and "
            f"positions {tuple(self.mask.shape) if self.mask is not None else 'without a mask'}: which of its rows are "
            "padding can't be known. Leave the layer out of target_modules, or give batches without padding."
        )


def decoder_positions(batch: Mapping[str, Tensor], examples: int, predicting: Tensor | None) -> Positions:
    """The positions of a decoder that has an encoder beside it; without a mask of its own, labels tell its padding."""
    mask = batch.get("decoder_attention_mask")
    if mask is None and "labels" in batch and batch["labels"].ndim == 2:
        # Padding of the labels is at the end, so that a position counts if a label stands at it or behind it.
        has_label = batch["labels"] != -100
        mask = has_label.flip(1).cumsum(1).flip(1) > 0
    return Positions(examples, None if mask is None else mask.bool(), predicting)

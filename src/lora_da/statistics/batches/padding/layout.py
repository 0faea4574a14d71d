"""How the positions of a batch lie in what a module receives, told from how that changes with the batch.

Sizes alone never decide: an axis is one of positions if it grows when examples are padded further, and one of examples
if nothing else changes in it when one example does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lora_da.statistics.batches.padding.axis import Side

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

Order = Literal["apart", "examples first", "positions first"]
"""Whether examples and positions have an axis each, or share one, and which of them then comes first."""


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        shape: The shape of its input but the last dimension, which is that of features.
        rows: Two numbers that tell the input's rows from each other, and a row's norm, (n, 3).
        resolution: The smallest relative change of a row that is more than rounding, where kernels run on other shapes.
    """

    shape: tuple[int, ...]
    rows: Float[Tensor, "rows 3"]
    resolution: float

    @classmethod
    def of(cls, module_input: Float[Tensor, "*shape"]) -> Call:
        """Keep what is needed of a module's input."""
        matrix = module_input.detach().flatten(0, -2) if module_input.ndim > 1 else module_input.detach()[None]
        numbers = matrix.float()
        weights = _weights(matrix.shape[1], matrix.device)
        rows = torch.cat([numbers @ weights, torch.linalg.vector_norm(numbers, dim=1, keepdim=True)], 1)
        epsilon = max(torch.finfo(module_input.dtype).eps, torch.finfo(torch.float32).eps)
        return cls(tuple(module_input.shape[:-1]), rows.cpu(), min(1000 * epsilon, 0.05))

    def changed_from(self, other: Call) -> Bool[Tensor, " rows"]:
        """Tell which rows another call of the same shape has otherwise.

        Rows that nothing has touched come out the same to the last bit there, and those of tokens that have nearly
        all in common differ by little.
        """
        return _changes(self.rows, other.rows) > 4 * torch.finfo(torch.float32).eps


@cache
def _weights(width: int, device: torch.device) -> Tensor:
    waves = torch.arange(width, device=device, dtype=torch.float32)
    return torch.stack([torch.cos(1.7 * waves + 0.3), torch.sin(2.3 * waves + 0.9)], 1)


def _changes(rows: Tensor, others: Tensor) -> Tensor:
    size = torch.maximum(rows[:, 2], others[:, 2]).clamp(min=1e-30)
    changes: Tensor = ((rows - others)[:, :2].abs().amax(1) / size).nan_to_num(0.0)
    return changes


@dataclass(frozen=True)
class Layout:
    """Where the positions along one of a batch's axes lie in a module's input.

    Attributes:
        axis: The name of the batch's axis.
        positions: The dimension that holds them.
        examples: The dimension that holds the examples, the same where they share it.
        order: How the two lie.
        before: How many rows of each example stand before its first position, such as an image's.
        after: How many stand behind the last one.
        counted: Whether only an example by itself tells how many rows it has, as where several positions make one row,
            or where a module needs lengths of some multiple.
    """

    axis: str
    positions: int
    examples: int
    order: Order = "apart"
    before: int = 0
    after: int = 0
    counted: bool = False

    def length_of(self, shape: tuple[int, ...], examples: int) -> int:
        """Return how many rows each of the examples has in an input of some shape (without features)."""
        return shape[self.positions] if self.order == "apart" else shape[self.positions] // examples

    def rows(
        self,
        shape: tuple[int, ...],
        mask: Bool[Tensor, "examples length"],
        counts: Int[Tensor, " examples"] | None = None,
        side: Side = "right",
    ) -> Bool[Tensor, " rows"] | None:
        """Tell which rows of an input are tokens.

        Args:
            shape: The input's shape without features.
            mask: That of the axis.
            counts: How many rows each example has by itself, if they are to be counted.
            side: Where the padding stands, for the same.

        Returns:
            None if an input of this shape does not lie so.
        """
        if max(self.positions, self.examples) >= len(shape):
            return None
        examples = len(mask)
        if shape[self.examples] % examples:
            return None
        found = self.length_of(shape, examples)
        if self.counted:
            if counts is None:
                return None
            places, counts = torch.arange(found, device=mask.device)[None], counts.to(mask.device)[:, None]
            return self._placed(shape, places < counts if side == "right" else places >= found - counts)
        mask = F.pad(mask, (self.before, self.after), value=True)
        return self._placed(shape, mask) if mask.shape[1] == found else None

    def _placed(self, shape: tuple[int, ...], mask: Tensor) -> Tensor | None:
        if self.order != "apart":
            flat = mask if self.order == "examples first" else mask.T
            others = [size for dimension, size in enumerate(shape) if dimension != self.positions]
            if flat.numel() != shape[self.positions] or any(size != 1 for size in others):
                return None
            return flat.flatten()
        mask = mask.repeat_interleave(shape[self.examples] // len(mask), 0)
        mask = mask if self.examples < self.positions else mask.T
        view = [size if one in (self.positions, self.examples) else 1 for one, size in enumerate(shape)]
        return mask.reshape(view).expand(shape).flatten()


class Unplaced(Enum):
    """What is known of an input whose positions have no layout.

    Attributes:
        OFF: It lies along none of the batch's axes, or in a way that can't be told: all its rows count.
        EXAMPLE: It has one row for each example, as behind a pooling.
        FIXED: It belongs to examples, but its size has not changed with the padding.
        CHOSEN: How many rows there are depends on what the examples say, as an expert's do.
    """

    OFF = "off"
    EXAMPLE = "example"
    FIXED = "fixed"
    CHOSEN = "chosen"


Found = Layout | Unplaced


@dataclass(frozen=True)
class Comparison:
    """What is compared: a batch, the same with one example changed, and the same padded further along one axis.

    Attributes:
        axis: The axis's name.
        mask: Its mask in the first batch, (B, L).
        side: Where the padding stands.
        added: How many positions the third batch has more.
        example: The one that was changed.
    """

    axis: str
    mask: Bool[Tensor, "examples length"]
    side: Side
    added: int
    example: int

    def find(self, first: Call, changed: Call, longer: Call) -> Found:
        """Tell how positions lie in a module's input, from the same call of it in each of the three batches."""
        if first.shape != changed.shape or len(first.shape) != len(longer.shape):
            return Unplaced.CHOSEN
        found = self._find(first, first.changed_from(changed), longer)
        certain = found is Unplaced.EXAMPLE or (isinstance(found, Layout) and not found.counted)
        return Unplaced.CHOSEN if len(first.shape) == 1 and not certain else found

    def _find(self, first: Call, touched: Tensor, longer: Call) -> Found:
        if not bool(touched.any()):
            return Unplaced.OFF
        grown = [d for d, (one, other) in enumerate(zip(first.shape, longer.shape, strict=True)) if one != other]
        if not grown:
            pooled = len(touched) == len(self.mask) and touched.nonzero().flatten().tolist() == [self.example]
            return Unplaced.EXAMPLE if pooled else Unplaced.FIXED
        if len(grown) > 1:
            return Unplaced.OFF
        for layout in self._placings(first.shape, grown[0]):
            length, longest = (layout.length_of(call.shape, len(self.mask)) for call in (first, longer))
            if self._holds_example(layout, first.shape, length, touched):
                return self._aligned(layout, first, longer, length, longest)
        return Unplaced.OFF

    def _placings(self, shape: tuple[int, ...], positions: int) -> list[Layout]:
        examples = len(self.mask)
        others = [d for d, size in enumerate(shape) if d != positions and size % examples == 0]
        apart = [Layout(self.axis, positions, d) for d in others]
        shared: list[Layout] = []
        if shape[positions] % examples == 0 and all(s == 1 for d, s in enumerate(shape) if d != positions):
            orders: tuple[Order, ...] = ("examples first", "positions first")
            shared = [Layout(self.axis, positions, positions, order) for order in orders]
        return apart + shared

    def _holds_example(self, layout: Layout, shape: tuple[int, ...], length: int, touched: Tensor) -> bool:
        """Whether all rows that have changed with the example are its own in this layout."""
        own = torch.zeros(len(self.mask), length, dtype=torch.bool)
        own[self.example] = True
        whole = Layout(layout.axis, layout.positions, layout.examples, layout.order).rows(shape, own)
        return whole is not None and not bool((touched & ~whole).any())

    def _aligned(self, layout: Layout, first: Call, longer: Call, length: int, longest: int) -> Found:
        """The layout with the places that positions have among an example's rows."""
        spare = length - self.mask.shape[1]
        if longest - length == self.added and spare == 0:
            return layout
        if longest - length == self.added and spare > 0:
            tried = (replace(layout, before=spare), replace(layout, after=spare))
            return next((one for one in tried if self._agrees(one, first, longer)), Unplaced.OFF)
        counted = replace(layout, counted=True)
        return counted if self._keeps_rows(counted, first, longer) else Unplaced.OFF

    def _agrees(self, layout: Layout, first: Call, longer: Call) -> bool:
        """Whether the changed example's tokens stand where the layout has them, with and without more padding."""
        own = torch.zeros_like(self.mask)
        own[self.example] = self.mask[self.example]
        padding = (0, self.added) if self.side == "right" else (self.added, 0)
        masks = (own, F.pad(own, padding, value=False))
        found = []
        for call, mask in ((first, masks[0]), (longer, masks[1])):
            tokens, beside = layout.rows(call.shape, mask), layout.rows(call.shape, torch.zeros_like(mask))
            if tokens is None or beside is None:
                return False
            found.append(call.rows[tokens & ~beside])
        return self._same(first, *found)

    def _keeps_rows(self, layout: Layout, first: Call, longer: Call) -> bool:
        """Whether more padding has only added rows to the changed example's, on the side of the padding."""
        counts = torch.zeros(len(self.mask), dtype=torch.long)
        counts[self.example] = layout.length_of(first.shape, len(self.mask))
        rows = [layout.rows(call.shape, self.mask, counts, self.side) for call in (first, longer)]
        one, other = rows
        return one is not None and other is not None and self._same(first, first.rows[one], longer.rows[other])

    @staticmethod
    def _same(call: Call, rows: Tensor, others: Tensor) -> bool:
        return rows.shape == others.shape and not bool((_changes(rows, others) > call.resolution).any())

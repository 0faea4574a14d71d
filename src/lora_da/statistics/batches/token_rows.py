"""Which rows of a layer's input and output gradient are tokens.

A batch of B examples padded to L positions reaches a layer as B·L rows. Padding is left out by indexing, never by
multiplying with zero, since padded positions may hold NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class TokenRows:
    """The rows of one layer's input that are tokens.

    Attributes:
        tokens: Their indices, (n,); None stands for all rows.
        padding: The indices of the others; None where there are none.
    """

    tokens: Int[Tensor, " tokens"] | None = None
    padding: Int[Tensor, " padding"] | None = None

    @classmethod
    def where(cls, attended: Bool[Tensor, " rows"]) -> TokenRows:
        """Return the rows at which a mask, (rows,), is true."""
        return cls(attended.nonzero().squeeze(1), (~attended).nonzero().squeeze(1))

    def of(self, matrix: Float[Tensor, "rows width"]) -> Float[Tensor, "tokens width"]:
        """Return these rows of a matrix."""
        return matrix if self.tokens is None else matrix.index_select(0, self.tokens.to(matrix.device))

    def with_gradient(self, gradient: Float[Tensor, "rows d_out"]) -> TokenRows:
        """Return these rows and those of padding whose gradient is not zero: some losses reach padding.

        A row of padding that holds NaN is none of them.
        """
        if self.tokens is None or self.padding is None or len(self.padding) == 0:
            return self
        padding = self.padding.to(gradient.device)
        norms = torch.linalg.vector_norm(gradient.index_select(0, padding), float("inf"), dim=1)
        reached = padding[norms > 0]
        if len(reached) == 0:
            return self
        return TokenRows(torch.cat([self.tokens.to(gradient.device), reached]).sort().values)

    def among(self, chosen: Int[Tensor, " chosen"], count: int) -> TokenRows:
        """Return which of the rows that a module has chosen from its input of ``count`` rows are tokens."""
        if self.tokens is None:
            return self
        attended = torch.zeros(count, dtype=torch.bool, device=chosen.device)
        attended[self.tokens.to(chosen.device)] = True
        return TokenRows.where(attended[chosen])


TokenRowsOf = Callable[[str, Tensor], TokenRows]
"""A function of a layer's name and its input, (..., d_in), that tells which rows of that are tokens."""

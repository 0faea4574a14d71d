"""Which statistics one pass over the data collects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from lora_da.choices import check_choices


@dataclass(frozen=True)
class CollectionConfig:
    """Settings of the collection; statistics of different settings do not add.

    Attributes:
        loss_reduction: The loss of one example: the "sum" of its label tokens' losses in nats (its negative
            log-likelihood, what the theory asks for) or their "mean".
        counted_tokens: The positions that enter the Fisher factors and the token count: all "attended" ones, or only
            those that predict a label ("labels"). The gradient always sums over all attended positions.
        output_factor: Keep only the "diagonal" of the output Fisher factor, or the "full" matrix, which the
            diagonal of its inverse needs (d_out² numbers a layer).
        accumulation_dtype: The precision of the products and sums, "float32" or "float64".
    """

    loss_reduction: Literal["sum", "mean"] = "sum"
    counted_tokens: Literal["attended", "labels"] = "attended"
    output_factor: Literal["diagonal", "full"] = "diagonal"
    accumulation_dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The accumulation dtype as torch names it."""
        return torch.float32 if self.accumulation_dtype == "float32" else torch.float64

"""The loss of pairs that are told from those of other examples in the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lora_da.statistics.losses.targets import at_least_float32

if TYPE_CHECKING:
    from jaxtyping import Float

Pooling = Literal["mean", "first", "last"]
"""What stands for a text: the mean over its tokens, its first token or its last one."""


@dataclass(frozen=True)
class Contrastive:
    """In-batch negatives: -log p of a query's own passage among all passages of the batch.

    A batch of m pairs has 2 m rows, first all queries, then all passages. A text's embedding is made from the model's
    last hidden states and has the length 1; p is the softmax of the embeddings' products over ``temperature``.

    An example's loss depends on the others of its batch, so that the batch size is a part of the objective: give
    batches as large as in training.

    Attributes:
        temperature: What the products are divided by.
        pooling: What stands for a text.
        symmetric: Whether a passage's own query is also looked for among all queries, and both losses are averaged.
    """

    temperature: float = 0.05
    pooling: Pooling = "mean"
    symmetric: bool = False
    rows_per_example: ClassVar[int] = 2
    batch_dependent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: The temperature is not positive, or the pooling unknown.
        """
        if not self.temperature > 0:
            raise ValueError(f"Contrastive must have a positive temperature, not {self.temperature}")
        if self.pooling not in get_args(Pooling):
            raise ValueError(f"Contrastive's pooling must be one of {get_args(Pooling)}, not {self.pooling!r}")

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each pair's loss from the (2 m, L, d) ``last_hidden_state``, in nats.

        Raises:
            ValueError: The output has no last hidden states, or there is no even number of rows.
        """
        queries, passages = F.normalize(self._embed(output, batch), dim=-1).chunk(2)
        if len(queries) != len(passages):
            raise ValueError(f"{len(queries) + len(passages)} rows are no pairs: give all queries, then all passages")
        products = queries @ passages.T / self.temperature
        own = torch.arange(len(queries), device=products.device)
        losses = F.cross_entropy(products, own, reduction="none")
        return (losses + F.cross_entropy(products.T, own, reduction="none")) / 2 if self.symmetric else losses

    def _embed(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, "rows width"]:
        states = getattr(output, "last_hidden_state", None)
        if not isinstance(states, Tensor) or states.ndim != 3:
            raise ValueError(
                "the model's output has no last_hidden_state, (rows, length, width): give a model without a head "
                "(AutoModel), or an example_loss of your own with batch_dependent = True"
            )
        states, mask = at_least_float32(states), batch.get("attention_mask")
        mask = torch.ones(states.shape[:2]) if mask is None else mask
        mask = mask.to(states.device).bool()
        rows = torch.arange(len(states), device=states.device)
        if self.pooling == "first":
            return states[rows, mask.int().argmax(1)]
        if self.pooling == "last":
            return states[rows, mask.shape[1] - 1 - mask.flip(1).int().argmax(1)]
        return states.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)

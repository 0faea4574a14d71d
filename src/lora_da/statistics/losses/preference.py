"""The losses of preference pairs: one example is a chosen answer and a rejected one.

A batch of m pairs has 2 m rows, as TRL's collators make it: first all chosen answers, then all rejected ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lora_da.statistics.losses.example_losses import find_logits
from lora_da.statistics.losses.language_models import CausalLM
from lora_da.statistics.losses.targets import at_least_float32

if TYPE_CHECKING:
    from jaxtyping import Float

_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")


@dataclass(frozen=True)
class RewardPairs:
    """-log σ(reward of the chosen answer - that of the rejected one - margin), as TRL's ``RewardTrainer`` has it.

    The model has one logit a row (``num_labels=1``). A batch may have a ``margin``, (m,).

    Attributes:
        centring: What is multiplied with the square of both rewards' sum and added, TRL's
            ``center_rewards_coefficient``.
    """

    centring: float = 0.0
    rows_per_example: ClassVar[int] = 2
    own_entries: ClassVar[tuple[str, ...]] = ("margin",)

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each pair's loss from (2 m, 1) logits, in nats.

        Raises:
            ValueError: The logits are no rewards of pairs.
        """
        logits = at_least_float32(find_logits(output))
        if logits.numel() != len(logits):
            raise ValueError(
                f"logits {tuple(logits.shape)} are no rewards, one a row: make the model with num_labels=1"
            )
        chosen, rejected = _halves(logits.flatten())
        difference = chosen - rejected
        if batch.get("margin") is not None:
            difference = difference - torch.as_tensor(batch["margin"]).to(difference)
        return self.centring * (chosen + rejected).square() - F.logsigmoid(difference)


@dataclass(frozen=True)
class DPO:
    """Direct preference optimisation: -log σ(β·((log π - log ρ) of the chosen answer - that of the rejected one)).

    π is the model, ρ its reference; log-probabilities are summed over an answer's label tokens. These are the batch's
    ``labels`` that aren't -100, or the tokens that TRL's ``completion_mask`` marks.

    ρ is given by the batch's ``ref_chosen_logps`` and ``ref_rejected_logps``, (m,). An initialisation that finds none
    computes them from the base model. Outside of one, the reference is the model itself, as it is at that moment.

    Attributes:
        beta: β.
        label_smoothing: The share of pairs that are supposed to be swapped.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    rows_per_example: ClassVar[int] = 2
    own_entries: ClassVar[tuple[str, ...]] = ("completion_mask", *_REFERENCE)

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each pair's loss from (2 m, L, V) logits, in nats.

        Raises:
            ValueError: An answer has no label token, or the batch no even number of rows.
        """
        found = _log_probabilities(output, batch)
        reference = {name: batch[name] for name in _REFERENCE if batch.get(name) is not None}
        if len(reference) < len(_REFERENCE):
            reference = self.refer(output, batch)
        ratios = [
            own - torch.as_tensor(reference[name]).to(own) for own, name in zip(_halves(found), _REFERENCE, strict=True)
        ]
        margin = self.beta * (ratios[0] - ratios[1])
        smoothing = self.label_smoothing
        return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)

    def refer(self, output: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the reference's log-probabilities, given its output; nothing where the batch has them."""
        if all(batch.get(name) is not None for name in _REFERENCE):
            return {}
        return dict(zip(_REFERENCE, _halves(_log_probabilities(output, batch).detach()), strict=True))


def _halves(rows: Float[Tensor, " rows"]) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    if len(rows) % 2:
        raise ValueError(f"{len(rows)} rows are no pairs: give all chosen answers first, then all rejected ones")
    chosen, rejected = rows.chunk(2)
    return chosen, rejected


def _log_probabilities(output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " rows"]:
    """The log-probability of each row's answer, in nats."""
    mask = batch.get("completion_mask")
    if isinstance(mask, Tensor):
        batch = {"labels": batch["input_ids"].masked_fill(mask == 0, -100)}
    return -CausalLM()(output, batch)

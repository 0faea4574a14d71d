"""The loss that a trainer trains with, as the loss of each example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_da.statistics.batches.examples import count_rows
from lora_da.statistics.batches.inputs import find_labels
from lora_da.statistics.losses.example_losses import ExampleLoss
from lora_da.statistics.losses.preference import DPO, RewardPairs

# Their `compute_loss` takes the model's own loss, or one that equals it.
_LOSS_OF_THE_MODEL = ("transformers.trainer", "trl.trainer.sft_trainer")
_TOLERANCE = 1e-4


def find_trainer_loss(trainer: Any) -> ExampleLoss | None:
    """Return the loss of a trainer's examples; None where that is the model's own.

    Raises:
        ValueError: The examples' losses can't be told apart; the message names the loss and says what to do.
    """
    function, home = getattr(trainer, "compute_loss_func", None), type(trainer).compute_loss.__module__
    if function is not None:
        return TrainerFunction(function)
    if home in _LOSS_OF_THE_MODEL:
        return None
    if home == "trl.trainer.reward_trainer":
        return RewardPairs(centring=trainer.args.center_rewards_coefficient or 0.0)
    if home == "trl.trainer.dpo_trainer":
        return _preference_loss(trainer)
    raise _refusal(f"{type(trainer).__name__}.compute_loss")


def _preference_loss(trainer: Any) -> DPO:
    args = trainer.args
    plain = {"loss_type": ["sigmoid"], "f_divergence_type": "reverse_kl", "ld_alpha": None, "use_weighting": False}
    for name, usual in plain.items():
        value = getattr(args, name, usual)
        if value != usual and [value] != usual:
            raise _refusal(f"DPO with {name}={value!r}, of whose variants the sigmoid alone is known")
    return DPO(beta=args.beta)


def _refusal(loss: str) -> ValueError:
    return ValueError(
        f"the trainer's loss is its own ({loss}), of which the examples' losses can't be told apart: give "
        "example_loss, a function of (model output, batch) that returns each example's loss"
    )


@dataclass(frozen=True)
class TrainerFunction:
    """A trainer's ``compute_loss_func``, called with each example's part of the model's output and of the labels.

    Such a function returns one number for a batch. Each batch shows whether the examples' numbers make it up: as their
    sum, where the function divides by ``num_items_in_batch`` (which is then given as 1), or as their mean, where every
    example has one label. Any other is refused.
    """

    function: Callable[..., Any]
    rows_per_example = 1

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Tensor:
        """Compute the examples' losses.

        Raises:
            ValueError: They don't make up the batch's.
        """
        labels, size = find_labels(batch), count_rows(batch)
        whole = self._of(output, labels, 1)
        rows = [slice(row, row + 1) for row in range(size)]
        losses = torch.stack([self._of(_part(output, row, size), labels[row], 1) for row in rows])
        halved = self._of(output, labels, 2)
        if _close(2 * halved, whole) and _close(losses.sum(), whole):
            return losses
        if labels.numel() == size and _close(losses.mean(), whole) and _close(halved, whole):
            return losses
        raise _refusal(
            f"compute_loss_func: {float(whole.detach()):.6g} for a batch is neither the sum of its examples' with "
            "num_items_in_batch=1 nor the mean of one label's each"
        )

    def _of(self, output: Any, labels: Tensor, items: int) -> Tensor:
        device = next(iter(_tensors(output))).device
        loss: Tensor = self.function(output, labels.to(device), num_items_in_batch=torch.tensor(items, device=device))
        return loss.reshape(())


def _close(found: Tensor, wanted: Tensor) -> bool:
    return abs(float(found.detach() - wanted.detach())) <= _TOLERANCE * abs(float(wanted.detach())) + 1e-6


def _part(value: Any, rows: slice, size: int) -> Any:
    """Some examples' part of a model's output."""
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and len(value) == size else value
    kind: Any = type(value)
    if isinstance(value, Mapping):
        return kind({name: _part(entry, rows, size) for name, entry in value.items()})
    return kind(_part(entry, rows, size) for entry in value) if isinstance(value, list | tuple) else value


def _tensors(output: Any) -> list[Tensor]:
    entries = output.values() if isinstance(output, Mapping) else output
    return [entry for entry in entries if isinstance(entry, Tensor)]

"""TRL's trainer, which ends a training that has diverged, and saves nothing of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trl.trainer.sft_trainer import SFTTrainer

from lora_da.workflows.checkpoints import find_whole_checkpoint


class FiniteTrainer(SFTTrainer):
    """TRL's trainer, with an end at the first loss that is not finite.

    Raises:
        FloatingPointError: By ``train``, ``evaluate`` and ``save_model``: a loss is not finite, or an adapter would be
            saved with such a number.
    """

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Take the gradient of a batch, unless its loss is not finite."""
        loss: Tensor = super().training_step(*args, **kwargs)  # type: ignore[no-untyped-call]
        if not self._everywhere(bool(torch.isfinite(loss).all())):
            raise self._diverged(f"the loss at step {self.state.global_step + 1} is {float(loss.mean())}")
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with other figures that are not finite as text, since JSON has none."""
        for name in ("loss", "eval_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise self._diverged(f"{name} at step {self.state.global_step} is {logs[name]}")
        super().log(logs, start_time)
        kept: dict[str, Any] = self.state.log_history[-1]
        for name, value in kept.items():
            if isinstance(value, float) and not math.isfinite(value):
                kept[name] = str(value)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter, unless an entry of it is not finite."""
        model: Any = self.model
        trained = [(name, part) for name, part in model.named_parameters() if part.requires_grad]
        damaged = [name for name, part in trained if not bool(torch.isfinite(part.detach()).all())]
        if not self._everywhere(not damaged):
            raise self._diverged(f"after step {self.state.global_step} {(damaged or ['a weight'])[0]} is not finite")
        super().save_model(output_dir, _internal_call)

    def _everywhere(self, fine: bool) -> bool:
        """Whether it is fine in all processes of the job, so that all of them end."""
        if self.args.world_size == 1:
            return fine
        faults: Any = self.accelerator.reduce(torch.tensor(float(not fine), device=self.args.device))
        return float(faults) == 0.0

    def _diverged(self, what: str) -> FloatingPointError:
        output = Path(str(self.args.output_dir))
        last = find_whole_checkpoint(output)
        kept = f"{last} is the last checkpoint" if last else "no checkpoint was saved before"
        return FloatingPointError(
            f"{what}: training has diverged, or a batch has no token to learn within --max_length. Nothing of it is "
            f"saved; {kept}. Start anew with a lower --learning_rate"
        )

"""What a training run shows: one bar with the training loss in it, and a line an evaluation."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback


class TrainingProgress(TrainerCallback):
    """TRL's figures in few words; all of them stand in ``trainer_state.json`` and go to the trackers.

    Without a bar, the training loss has lines of its own.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the bar, from the step that a resumed run goes on from."""
        if state.is_world_process_zero and not args.disable_tqdm:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar on."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Put the training loss into the bar, and write a line for each held-out set's loss."""
        if not state.is_world_process_zero or not logs:
            return
        if "loss" in logs and self._bar is not None:
            self._bar.set_postfix_str(f"loss {logs['loss']:.4f}")
        elif "loss" in logs:
            self._say(f"step {state.global_step}: training loss {logs['loss']:.4f}")
        held_out = [
            name for name in logs if (name.startswith("eval_") and name.endswith("_loss")) or name == "eval_loss"
        ]
        for name in held_out:
            which = name.removeprefix("eval_").removesuffix("loss").strip("_")
            self._say(f"step {state.global_step}: held-out loss {logs[name]:.4f}" + (f" ({which})" if which else ""))
        if "train_loss" in logs:
            self._say(
                f"{state.global_step} steps in {logs['train_runtime']:.0f} s, training loss {logs['train_loss']:.4f} "
                "on average"
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        tqdm.write(line)


def show_progress(trainer: Any) -> None:
    """Let a trainer show its progress so, in place of transformers' dictionaries."""
    for kind in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(kind)
    trainer.add_callback(TrainingProgress())

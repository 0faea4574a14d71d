"""The model card of a run that trains B alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_da.workflows.finite_trainer import FiniteTrainer

_NOTE = """
## A is frozen

Only B of this adapter was trained; A is what it started with. To train it further in the same way, call
`lora_da.freeze_a(model)` after it has been loaded.
"""


class FrozenATrainer(FiniteTrainer):
    """TRL's trainer, with the cards of its adapter and checkpoints saying that A was frozen."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter and its card."""
        super().save_model(output_dir, _internal_call)
        self._note(output_dir)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the card of the output folder anew, as before each checkpoint and each push to the hub."""
        super().create_model_card(*args, **kwargs)
        self._note(None)

    def _note(self, folder: str | None) -> None:
        card = Path(folder or str(self.args.output_dir)) / "README.md"
        if self.is_world_process_zero() and card.is_file():
            text = card.read_text(encoding="utf-8")
            if _NOTE.strip() not in text:
                card.write_text(text.rstrip() + "\n" + _NOTE, encoding="utf-8")

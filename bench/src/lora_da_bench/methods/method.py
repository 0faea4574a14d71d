"""What an initialisation is to a comparison: a function that puts a trainable adapter on a fresh model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig
from torch import Tensor, nn


@dataclass(frozen=True)
class Setup:
    """What an initialisation is given.

    Attributes:
        model: A freshly loaded base model, on its device; the method may change it.
        lora: The adapter's rank, alpha, scaling and layers, with PEFT's default initialisation. Not to be changed:
            take a copy with ``dataclasses.replace``.
        batches: The calibration sample as padded batches with ``labels``, on the CPU; the same for every method.
        population_size: How many training examples there are.
        seed: Of everything random. The global random state is seeded with it before the method is called.
    """

    model: Any
    lora: LoraConfig
    batches: Sequence[Mapping[str, Tensor]]
    population_size: int
    seed: int

    @property
    def examples(self) -> int:
        """How many examples the calibration sample has."""
        return sum(len(batch["labels"]) for batch in self.batches)


@dataclass(frozen=True)
class Method:
    """An initialisation.

    Attributes:
        name: As it is asked for.
        description: What it does and where it comes from, in one line of the report.
        initialise: From a setup to the model to train, whose ``requires_grad`` say what is trained.
        uses_data: Whether it looks at the calibration sample; ``lora-da-bench compare --list`` says so.
    """

    name: str
    description: str
    initialise: Callable[[Setup], nn.Module]
    uses_data: bool = False

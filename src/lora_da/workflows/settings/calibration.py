"""How much calibration takes: examples and memory."""

from __future__ import annotations

from dataclasses import dataclass

from lora_da.system.settings import setting


@dataclass(frozen=True)
class Calibration:
    """How many examples the statistics are taken from, and in how much memory.

    Attributes:
        examples: How many are drawn at random.
        batch_size: Examples a batch.
        memory_budget: As in :func:`lora_da.initialize_lora_da_weights`.
    """

    examples: int = setting(256, "Calibration examples, drawn at random from the data.", minimum=1)
    batch_size: int = setting(8, "Examples a batch. It changes memory and speed, not the statistics.", minimum=1)
    memory_budget: str = setting(
        "auto",
        "What the statistics may take of the device's memory, such as 8GiB; auto is 0.7 of what is free. What does not "
        "fit goes to the host's memory or is collected in several passes, with the same result.",
    )

    def __post_init__(self) -> None:
        for name in ("examples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"the calibration's {name} must be at least 1, not {getattr(self, name)}")

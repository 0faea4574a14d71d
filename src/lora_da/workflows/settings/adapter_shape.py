"""What kind of LoRA adapter is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_da.system.settings import setting

if TYPE_CHECKING:
    from peft import LoraConfig


@dataclass(frozen=True)
class AdapterShape:
    """A LoRA adapter: rank r, alpha, rank-stabilised scaling or not, and the layers it adapts."""

    rank: int = setting(8, "LoRA's rank r.", minimum=1)
    alpha: int = setting(16, "LoRA's alpha; the update is scaled by alpha/√r, without rslora alpha/r.", minimum=1)
    rslora: bool = setting(True, "Rank-stabilised scaling.")
    target_modules: str = setting("all-linear", "all-linear, or names of layers separated by commas.")

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1:
            raise ValueError(f"rank and alpha must be at least 1, not {self.rank} and {self.alpha}")
        if not self._names:
            raise ValueError("target modules are missing: give all-linear, or names such as q_proj,v_proj")

    @property
    def _names(self) -> list[str]:
        return [name.strip() for name in self.target_modules.split(",") if name.strip()]

    def lora_config(self, task_type: str = "CAUSAL_LM") -> LoraConfig:
        """The adapter's configuration, as PEFT has it.

        Args:
            task_type: PEFT's name of the model's kind; it trains a classifier's head beside the adapter.
        """
        from peft import LoraConfig  # it takes seconds, which help texts need not wait for

        names = self._names
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            use_rslora=self.rslora,
            target_modules=names[0] if names == ["all-linear"] else names,
            task_type=task_type,
        )

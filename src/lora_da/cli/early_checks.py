"""What commands refuse before they import torch and the like, which takes seconds: what names and small files tell.

Nothing here imports more than the standard library. What a check says is what the work itself would say later.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_da.loading.data.data_names import check_data
from lora_da.loading.model_check import check_model
from lora_da.loading.model_source import ModelSource
from lora_da.system.extras import need
from lora_da.system.launcher import check_job
from lora_da.workflows.settings import DemoSettings, Outputs, inputs_of, preset_config
from lora_da.workflows.sft.first_look import look_at

_MODELS = ("transformers", "accelerate")
_DATA = ("datasets", "pyarrow", "jinja2", "trl")  # TRL brings chat templates and prepares the examples
_MODULES = {
    "init": (*_MODELS, *_DATA),
    "plan": _MODELS,
    "sft": (*_MODELS, *_DATA),
    "demo": (*_MODELS, *_DATA, "matplotlib"),
}


def check_installed(command: str) -> None:
    """Refuse a command of which a module is missing; see :func:`need`."""
    need(f"lora-da {command}", *_MODULES[command])


def check_init(
    model: ModelSource,
    data: str | None,
    outputs: Outputs,
    preset: str,
    statistics: Path | None,
    checkpoint: Path | None,
) -> None:
    """Refuse what `lora-da init` could not do.

    Raises:
        ImportError: A module is missing.
        OSError: The model, the data or the statistics are not there, or an output can't be written.
        ValueError: One of them or an option can't be used.
    """
    check_installed("init")
    preset_config(preset, 0)
    check_model(model)
    if data is not None:
        check_data(data)
    if statistics is not None:
        check_statistics(statistics)
    about = {"the statistics": statistics, "the folder of unfinished statistics": checkpoint}
    outputs.check(inputs_of(model, outputs.output, data) | about)
    check_job(model.device)
    model.check_device()


def check_plan(model: ModelSource, preset: str) -> None:
    """Refuse what `lora-da plan` could not foresee; see :func:`check_init`."""
    check_installed("plan")
    preset_config(preset, 0)
    check_model(model)
    model.check_device()


def check_inspect(source: Path, preset: str) -> None:
    """Refuse what `lora-da inspect` could not show; see :func:`check_init`."""
    preset_config(preset, 0)
    if not source.is_dir():
        check_statistics(source)
    elif not (source / "lora_da.json").is_file():
        raise FileNotFoundError(f"{source} has no lora_da.json: it is no adapter made by lora-da")


def check_sft(words: Sequence[str]) -> None:
    """Refuse what `lora-da sft` could not do, as far as its words tell; see :func:`check_init`."""
    check_installed("sft")
    check_job(None)
    look_at(words)


def check_demo(settings: DemoSettings, output: Path, *, overwrite: bool) -> None:
    """Refuse what `lora-da demo` could not do; see :func:`check_init`."""
    check_installed("demo")
    settings.check(output, overwrite=overwrite)
    check_model(ModelSource(settings.model))


def check_statistics(*files: Path) -> None:
    """Refuse files of statistics that are not there."""
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no statistics file {file}")

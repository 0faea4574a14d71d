"""From a model and data to an adapter folder: the work behind ``lora-da init``."""

from __future__ import annotations

import dataclasses
import time
import warnings
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from transformers import AutoModelForCausalLM, set_seed

from lora_da.api import collect_statistics, initialize_lora_da_weights
from lora_da.config import LoraDAConfig
from lora_da.loading.models import LoadedModel, convert_gguf
from lora_da.loading.rows import fingerprint
from lora_da.pipeline.checkpoint import Checkpoint
from lora_da.report.initialization import InitializationReport
from lora_da.statistics.storage import load_statistics, save_statistics
from lora_da.system.memory import MemoryBudget, format_size
from lora_da.workflows.adapter_folder import save_adapter
from lora_da.workflows.job import is_first_process
from lora_da.workflows.plan import plan_initialization, this_machine, workload_of
from lora_da.workflows.sources import (
    AdapterShape,
    Calibration,
    DataSource,
    ModelSource,
    batches_of,
    by_length,
    calibration_sample,
    model_config,
)

PRESETS = {"default": LoraDAConfig, "paper": LoraDAConfig.paper, "released": LoraDAConfig.released}


@dataclasses.dataclass(frozen=True)
class Resources:
    """What an initialisation may take, and where it can go on from; its result does not depend on them.

    Attributes:
        memory_budget: As in :func:`lora_da.initialize_lora_da_weights`.
        checkpoint: Where unfinished statistics are kept.
    """

    memory_budget: MemoryBudget = "auto"
    checkpoint: Checkpoint | None = None


def preset_config(preset: str, seed: int) -> LoraDAConfig:
    """The settings of a preset.

    Raises:
        ValueError: There is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    return dataclasses.replace(PRESETS[preset](), seed=seed)


def initialize_from_rows(
    loaded: LoadedModel,
    rows: datasets.Dataset,
    data: DataSource,
    shape: AdapterShape,
    config: LoraDAConfig,
    calibration: Calibration,
    *,
    resources: Resources = Resources(),
    save_statistics_to: Path | None = None,
    overwrite: bool = False,
) -> tuple[PeftModel, InitializationReport, dict[str, Any]]:
    """Make an adapter and initialise it from a sample of the rows.

    Args:
        loaded: The base model.
        rows: The training rows; their number is the population size.
        data: How they are read.
        shape: The adapter.
        config: The settings.
        calibration: The sample.
        resources: What it may take.
        save_statistics_to: Also write the statistics to this file.
        overwrite: Replace that file if it is there.

    Returns:
        The model, the report, and what identifies the data.
    """
    sample = calibration_sample(rows, calibration.examples, calibration.seed)
    examples = by_length(data.tokenized(sample, loaded.tokenizer))
    set_seed(config.seed)  # layers that the data say nothing about keep PEFT's random A
    peft_model = get_peft_model(loaded.model, shape.lora_config())
    batches = batches_of(examples, loaded.tokenizer, calibration.batch_size)
    config = dataclasses.replace(config, population_size=config.population_size or len(rows))
    statistics, seconds = None, {}
    if save_statistics_to is not None:
        started = time.perf_counter()
        statistics = collect_statistics(
            peft_model,
            batches,
            config.collection,
            max_examples=len(examples),
            memory_budget=resources.memory_budget,
            checkpoint=resources.checkpoint,
        )
        statistics = dataclasses.replace(statistics, population_size=len(rows))
        seconds = {"statistics": time.perf_counter() - started}
        if is_first_process():
            save_statistics(statistics, save_statistics_to, overwrite=overwrite)
    report = initialize_lora_da_weights(
        peft_model,
        batches,
        config,
        statistics=statistics,
        max_examples=len(examples),
        memory_budget=resources.memory_budget,
        checkpoint=resources.checkpoint,
    )
    report = dataclasses.replace(report, seconds=seconds | report.seconds)
    about = {
        "data": data.name,
        "split": data.split,
        "rows": len(rows),
        "data_fingerprint": fingerprint(rows),
        "calibration": dataclasses.asdict(calibration),
        "max_length": data.max_length,
    }
    return peft_model, report, about


def create_adapter(
    model: ModelSource,
    data: DataSource,
    shape: AdapterShape,
    config: LoraDAConfig,
    calibration: Calibration,
    output: Path,
    *,
    resources: Resources = Resources(),
    save_statistics_to: Path | None = None,
    overwrite: bool = False,
) -> InitializationReport:
    """Load a model and data, initialise an adapter, and write its folder.

    Raises:
        FileExistsError: An output is there and ``overwrite`` is false; found out before any work.
        ValueError: The model, a batch or the statistics don't fit into memory; found out before the model is loaded.
    """
    check_outputs(output, save_statistics_to, overwrite=overwrite)
    rows = data.rows()
    check_fits(model, data, shape, config, calibration, resources, in_one_pass=save_statistics_to is not None)
    loaded = model.load(output)
    peft_model, report, about = initialize_from_rows(
        loaded,
        rows,
        data,
        shape,
        config,
        calibration,
        resources=resources,
        save_statistics_to=save_statistics_to,
        overwrite=overwrite,
    )
    if is_first_process():
        save_adapter(
            peft_model,
            output,
            base=loaded.path,
            revision=loaded.revision,
            report=report,
            provenance=about,
            overwrite=overwrite,
        )
    return report


def check_fits(
    model: ModelSource,
    data: DataSource,
    shape: AdapterShape,
    config: LoraDAConfig,
    calibration: Calibration,
    resources: Resources,
    *,
    in_one_pass: bool = False,
) -> None:
    """Refuse what can't fit into memory, before the model is loaded; warn where that can't be told.

    Args:
        model: The base model.
        data: How the rows are read.
        shape: The adapter.
        config: The settings.
        calibration: The sample.
        resources: What may be taken.
        in_one_pass: Whether the sums of all layers have to be there at once, to be saved.

    Raises:
        ValueError: It does not fit; the message says which option would make it fit.
    """
    workload = workload_of(model, data, calibration)
    try:
        plan = plan_initialization(model, shape, config, workload, this_machine(model.device), resources.memory_budget)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # a model that can't run without its weights
        warnings.warn(f"how much memory this takes can't be told beforehand ({error})", stacklevel=2)
        return
    if plan.problem is not None:
        raise ValueError(f"this does not fit: {plan.problem}")
    if in_one_pass and plan.memory is not None and len(plan.memory.passes) > 1:
        raise ValueError(
            "this does not fit: statistics that are saved are collected in one pass, which takes "
            f"{format_size(plan.statistics_bytes)} of sums: raise --memory-budget, choose fewer --target-modules, or "
            "leave --save-statistics out"
        )


def resolve_adapter(
    model: ModelSource,
    statistics_file: Path,
    shape: AdapterShape,
    config: LoraDAConfig,
    output: Path,
    *,
    overwrite: bool = False,
) -> InitializationReport:
    """Make an adapter folder from saved statistics alone, without the weights of the model.

    Raises:
        FileExistsError: The output is there and ``overwrite`` is false.
        ValueError: The statistics belong to another model, or lack what the settings need.
    """
    check_outputs(output, overwrite=overwrite)
    statistics = load_statistics(statistics_file)
    folder = model.converted_folder(output)
    base = model.name if folder is None else str(convert_gguf(Path(model.name), folder))
    set_seed(config.seed)
    peft_model = _weightless(base, model, shape)
    report = initialize_lora_da_weights(peft_model, config=config, statistics=statistics)
    revision = getattr(peft_model.config, "_commit_hash", None)
    about = {"statistics": statistics_file.name}
    save_adapter(peft_model, output, base=base, revision=revision, report=report, provenance=about, overwrite=overwrite)
    return report


def check_outputs(output: Path, *files: Path | None, overwrite: bool) -> None:
    """Refuse outputs that exist or get in each other's way, before any work is done.

    Args:
        output: The adapter folder.
        files: Further files that will be written.
        overwrite: Whether they may be replaced; of folders, only one that holds an adapter or nothing.

    Raises:
        FileExistsError: One of the paths exists and may not be replaced.
        ValueError: A file lies inside the folder.
    """
    for path in filter(None, (output, *files)):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already; choose another path, or give --overwrite to replace it")
    if output.is_dir() and any(output.iterdir()) and not (output / "adapter_config.json").is_file():
        raise FileExistsError(f"{output} holds something that is no adapter and is not replaced; choose another folder")
    for path in filter(None, files):
        if path.resolve().is_relative_to(output.resolve()):
            raise ValueError(f"{path} lies inside {output}, which is written as a whole; put it elsewhere")


def _weightless(base: str, model: ModelSource, shape: AdapterShape) -> PeftModel:
    """The model without memory for its weights, with a real adapter on it."""
    config = model_config(base, model)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, trust_remote_code=model.trust_remote_code)
    _load_embeddings(empty, Path(base))
    with torch.device("meta"):
        peft_model = get_peft_model(empty, shape.lora_config(), low_cpu_mem_usage=True)
    for layer in peft_model.modules():
        if isinstance(layer, LoraLayer):
            for part in (layer.lora_A, layer.lora_B, layer.lora_embedding_A, layer.lora_embedding_B):
                part.to_empty(device="cpu")
            layer.reset_lora_parameters("default", True)  # type: ignore[no-untyped-call]
    return peft_model


def _load_embeddings(model: Any, folder: Path) -> None:
    """Give a model without weights its input embeddings from a local folder: they tell which model it is."""
    embeddings = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embeddings) + ".weight"
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118 (not a mapping)
                embeddings.weight = torch.nn.Parameter(tensors.get_tensor(name), requires_grad=False)

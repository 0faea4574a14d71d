"""From statistics on disk to an adapter folder, without data and without the weights of the model."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from transformers import AutoModelForCausalLM, set_seed

from lora_da.adapter.layers import find_linear_layers
from lora_da.api import initialize_lora_da_weights
from lora_da.config import LoraDAConfig
from lora_da.loading.gguf import convert_gguf
from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import load_config
from lora_da.report.initialization import InitializationReport
from lora_da.report.layers import kind_of
from lora_da.statistics.storage import load_statistics
from lora_da.statistics.sums import Statistics
from lora_da.system.launcher import refuse_job
from lora_da.workflows.adapter_folder import save_adapter
from lora_da.workflows.own_ranks import adapt_with_own_ranks
from lora_da.workflows.settings import AdapterShape, Outputs, inputs_of


def create_adapter_from_statistics(
    model: ModelSource, statistics_file: Path, shape: AdapterShape, config: LoraDAConfig, outputs: Outputs
) -> InitializationReport:
    """Make an adapter folder from saved statistics, the model's configuration and its input embeddings alone.

    Raises:
        FileExistsError: The output is there and may not be replaced.
        ValueError: The statistics belong to another model, or lack what the settings need; or a launcher has started
            several processes.
    """
    refuse_job("lora-da init --statistics")
    outputs.check(inputs_of(model, outputs.output) | {"the statistics": statistics_file})
    statistics = load_statistics(statistics_file)
    folder, path = model.converted_folder(outputs.output), model.path
    base = path if folder is None else str(convert_gguf(Path(path), folder))
    set_seed(config.seed)
    peft_model = _model_without_weights(dataclasses.replace(model, model=base), shape, statistics, config)
    report = initialize_lora_da_weights(peft_model, config=config, statistics=statistics)
    save_adapter(
        peft_model,
        outputs.output,
        base=base,
        revision=getattr(peft_model.config, "_commit_hash", None),
        report=report,
        provenance={"statistics": statistics_file.name},
        overwrite=outputs.overwrite,
    )
    return report


def _model_without_weights(
    model: ModelSource, shape: AdapterShape, statistics: Statistics, settings: LoraDAConfig
) -> PeftModel:
    """The model without memory for its weights, with a real adapter on it."""
    config = load_config(model)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config, trust_remote_code=model.trust_remote_code)
    _load_embeddings(empty, Path(model.path))
    shape = _on_known_layers(shape, empty, statistics)
    with torch.device("meta"):
        peft_model = shape.adapt(empty, low_cpu_mem_usage=True)
    if shape.rank == "auto":
        peft_model = adapt_with_own_ranks(peft_model, statistics, shape, settings, on_meta=True)
    for layer in peft_model.modules():
        if isinstance(layer, LoraLayer):
            for part in (layer.lora_A, layer.lora_B, layer.lora_embedding_A, layer.lora_embedding_B):
                part.to_empty(device="cpu")
            layer.reset_lora_parameters("default", True)  # type: ignore[no-untyped-call]
    return peft_model


def _on_known_layers(shape: AdapterShape, model: Any, statistics: Statistics) -> AdapterShape:
    """The shape on the kinds of layers that statistics have, where none are named and they have not all."""
    known = {kind_of(name) for name in statistics.layers}
    unknown = {kind_of(name) for name in find_linear_layers(model)} - known
    if shape.target_modules.strip().lower() != "all-linear" or not unknown:
        return shape
    names = ",".join(sorted(known))
    warnings.warn(
        f"the statistics have no {', '.join(sorted(unknown))}, so that the adapter is on {names} alone", stacklevel=2
    )
    return dataclasses.replace(shape, target_modules=names)


def _load_embeddings(model: Any, folder: Path) -> None:
    """Give a model without weights its input embeddings from a local folder: they tell which model it is."""
    embeddings = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embeddings) + ".weight"
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118 (not a mapping)
                embeddings.weight = torch.nn.Parameter(tensors.get_tensor(name), requires_grad=False)

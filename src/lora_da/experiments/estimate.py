"""What an initialisation would read, hold and take, said beforehand: the work behind ``lora-da init --dry-run``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_da.config import LoraDAConfig
from lora_da.experiments.initialization import Calibration, model_config
from lora_da.experiments.sources import AdapterShape, DataSource, ModelSource, calibration_sample
from lora_da.tables import kind_of


@dataclass(frozen=True)
class Plan:
    """A dry run's findings.

    Attributes:
        layers: For each kind of layer: how many, d_in, d_out.
        rows: Rows of the data set.
        examples: Calibration examples.
        tokens: Their tokens.
        longest: Tokens of the longest one.
        parameters: Of the base model.
        model_bytes: Memory of the base model.
        statistics_bytes: Memory of the sums.
        activation_bytes: Roughly, memory of one batch's activations.
        seconds: Roughly, for one pass over the examples and the solver, on this machine.
    """

    layers: dict[str, tuple[int, int, int]]
    rows: int
    examples: int
    tokens: int
    longest: int
    parameters: int
    model_bytes: int
    statistics_bytes: int
    activation_bytes: int
    seconds: float


def plan_initialization(
    model: ModelSource, data: DataSource, shape: AdapterShape, config: LoraDAConfig, calibration: Calibration
) -> Plan:
    """Read the data and the model's configuration, not its weights, and work out what an initialisation would need."""
    rows = data.rows()
    path = Path(model.name)
    if path.suffix.lower() == ".gguf":
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    else:
        tokenizer = AutoTokenizer.from_pretrained(
            model.name, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    examples = data.tokenized(calibration_sample(rows, calibration.examples, calibration.seed), tokenizer)
    lengths = [len(ids) for ids in examples["input_ids"]]

    base_config = model_config(model.name, model)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(base_config, trust_remote_code=model.trust_remote_code)
        parameters = sum(parameter.numel() for parameter in empty.parameters())
        peft_model = get_peft_model(empty, shape.lora_config(), low_cpu_mem_usage=True)
    sizes: dict[str, tuple[int, int]] = {
        name.removeprefix("base_model.model."): (int(layer.in_features or 0), int(layer.out_features or 0))
        for name, layer in peft_model.named_modules()
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A
    }
    saved = base_config.dtype if isinstance(base_config.dtype, torch.dtype) else torch.float32  # as GGUF is converted
    dtype = saved if model.dtype == "auto" else getattr(torch, model.dtype)

    width = 4 if config.collection.accumulation_dtype == "float32" else 8
    full = config.collection.output_factor == "full"
    batch_tokens = calibration.batch_size * max(lengths)
    vocabulary = getattr(base_config, "vocab_size", 0)
    # An upper bound where layers share an input: their input factors are held once.
    statistics = sum(d_out * d_in + d_in**2 + (d_out**2 if full else d_out) for d_in, d_out in sizes.values())
    activations = batch_tokens * (dtype.itemsize * sum(2 * d_in + d_out for d_in, d_out in sizes.values()))
    kinds: dict[str, tuple[int, int, int]] = {}
    for name, (d_in, d_out) in sizes.items():
        count = kinds.get(kind_of(name), (0, 0, 0))[0]
        kinds[kind_of(name)] = (count + 1, d_in, d_out)
    passes = sum(lengths) * (4 * parameters + sum(2 * d_in * (d_in + d_out) for d_in, d_out in sizes.values()))
    solves = sum(2 * d_in**2 * (d_in + d_out) for d_in, d_out in sizes.values())
    return Plan(
        layers=kinds,
        rows=len(rows),
        examples=len(examples),
        tokens=sum(lengths),
        longest=max(lengths),
        parameters=parameters,
        model_bytes=parameters * dtype.itemsize,
        statistics_bytes=width * statistics,
        activation_bytes=activations + 3 * 4 * batch_tokens * vocabulary,
        seconds=passes / _flops_per_second(model.device, dtype) + solves / _flops_per_second(None, torch.float64),
    )


def _flops_per_second(device: str | None, dtype: torch.dtype) -> float:
    """What matrix products of a usual size reach on this machine, halved for everything around them."""
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size = 1024 if where == "cpu" else 8192
    matrix = torch.randn(size, size, device=where).to(dtype)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a number waits for the device
        best = min(best, time.perf_counter() - started)
    return float(size**3 / best)

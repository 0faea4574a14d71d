"""The main job on an embedded default: the work behind ``lora-da demo``."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import datasets
from peft import get_peft_model
from transformers import set_seed

from lora_da.config import LoraDAConfig
from lora_da.loading.models import find_smollm2
from lora_da.report.plots import plot_losses
from lora_da.report.provenance import describe_machine, find_versions
from lora_da.system.files import write_text
from lora_da.workflows.adapter_folder import save_adapter
from lora_da.workflows.arithmetic import make_problems
from lora_da.workflows.init import initialize_from_rows
from lora_da.workflows.sources import AdapterShape, Calibration, DataSource, ModelSource
from lora_da.workflows.training import TrainingRecord, TrainingSettings, fine_tune
from lora_da_bench.running.evaluation import exact_match, generate

CAVEAT = (
    "One learning rate and one seed are no evidence that either method is better: each has its own best learning rate, "
    "and differences of this size can be noise."
)
_CALIBRATION = Calibration(examples=64, batch_size=8)
_HELD_OUT = 48  # problems, for the loss and for the answers


def run_demo(
    output: Path,
    *,
    model: str | None,
    steps: int,
    learning_rate: float,
    seed: int,
    overwrite: bool = False,
) -> list[tuple[str, ...]]:
    """Initialise with LoRA-DA, fine-tune from it and from plain LoRA with the same seed and budget, and compare.

    Args:
        output: The folder for the adapters, the plot and the figures.
        model: Another model than SmolLM2-135M-Instruct.
        steps: Optimiser steps of each training.
        learning_rate: Of both.
        seed: Of the data, the sample, the order and LoRA's random matrix.
        overwrite: Replace a demo that is there.

    Returns:
        A table of strings, its header first.

    Raises:
        FileExistsError: ``output`` exists and ``overwrite`` is false.
        FileNotFoundError: The package with the model is not installed; the message says how to.
    """
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists already; choose another --output, or give --overwrite")
    source = ModelSource(model or str(find_smollm2()), dtype="float32")
    if output.exists():
        for name in ("lora", "lora-da", "loss.png", "demo.json"):
            path = output / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    # Inside the folder, so that the demo leaves one folder and a second demo finds the converted model there.
    loaded = source.load(output / "model")
    problems = make_problems(held_out=_HELD_OUT, seed=seed)
    train_rows, held_out_rows = (datasets.Dataset.from_list(rows) for rows in problems)
    data = DataSource("worded arithmetic, made by lora-da", max_length=256)
    train, held_out = (data.tokenized(rows, loaded.tokenizer) for rows in (train_rows, held_out_rows))
    settings = TrainingSettings(learning_rate, steps=steps, batch_size=4, seed=seed, evaluations=4)

    accuracy = {"base model": _accuracy(loaded.model, loaded.tokenizer, held_out_rows)}
    records: dict[str, TrainingRecord] = {}
    init_seconds: dict[str, float] = {"LoRA": 0.0}
    for label, name in (("LoRA", "lora"), ("LoRA-DA", "lora-da")):
        print(f"\n== {label}")
        set_seed(seed)
        if name == "lora":
            peft_model: Any = get_peft_model(loaded.model, AdapterShape().lora_config())
        else:
            peft_model, report, about = initialize_from_rows(
                loaded,
                train_rows,
                data,
                AdapterShape(),
                dataclasses.replace(LoraDAConfig(), seed=seed),
                dataclasses.replace(_CALIBRATION, seed=seed),
            )
            init_seconds[label] = sum(report.seconds.values())
            print(report)
            start = output / name / "initial_adapter"
            save_adapter(peft_model, start, base=loaded.path, revision=None, report=report, provenance=about)
        records[label] = fine_tune(peft_model, loaded.tokenizer, train, held_out, settings, output / name)
        accuracy[label] = _accuracy(peft_model, loaded.tokenizer, held_out_rows)
        loaded = dataclasses.replace(loaded, model=peft_model.unload())

    base_loss = records["LoRA"].loss_base
    curves = {label: record.held_out for label, record in records.items()}
    plot_losses(curves, base_loss, output / "loss.png", overwrite=overwrite)
    results: dict[str, Any] = {"base model": {"held_out_loss": base_loss, "accuracy": accuracy["base model"]}}
    for label, record in records.items():
        results[label] = {
            "held_out_loss_at_start": record.held_out[0][1],
            "held_out_loss": record.held_out[-1][1],
            "accuracy": accuracy[label],
            "init_seconds": init_seconds[label],
            "training_seconds": record.seconds,
            "curve": record.held_out,
        }
    content = {
        "command": f"lora-da demo --steps {steps} --lr {learning_rate:g} --seed {seed}",
        "model": Path(loaded.path).name if model else "SmolLM2-135M-Instruct",
        "caveat": CAVEAT,
        "settings": dataclasses.asdict(settings),
        "calibration": dataclasses.asdict(_CALIBRATION),
        "held_out": len(held_out_rows),
        "machine": describe_machine(),
        "finished": time.strftime("%Y-%m-%d"),
        "versions": find_versions(),
        "results": results,
    }
    write_text(output / "demo.json", json.dumps(content, indent=1) + "\n", overwrite=overwrite)
    return _table(results)


def _accuracy(model: Any, tokenizer: Any, rows: datasets.Dataset) -> float:
    answers = generate(model, tokenizer, rows["prompt"], max_new_tokens=72, batch_size=_HELD_OUT)
    right = [exact_match(answer, truth) for answer, truth in zip(answers, rows["completion"], strict=True)]
    return sum(right) / len(right)


def _table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    header = ("", "loss at the start", "loss at the end", "exact match", "init", "training")
    rows: list[tuple[str, ...]] = [header]
    for label, result in results.items():
        start, end = result.get("held_out_loss_at_start"), result["held_out_loss"]
        rows.append(
            (
                label,
                "–" if start is None else f"{start:.4f}",
                f"{end:.4f}",
                f"{result['accuracy']:.1%}",
                f"{result['init_seconds']:.0f} s" if "init_seconds" in result else "–",
                f"{result['training_seconds']:.0f} s" if "training_seconds" in result else "–",
            )
        )
    return rows

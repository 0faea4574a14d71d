"""LoRA-DA and plain LoRA on a small real model: the work behind ``lora-da demo``."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from trl.trainer.sft_config import SFTConfig

from lora_da.api import initialize_from_trainer
from lora_da.config import LoraDAConfig
from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import LoadedModel, load_model
from lora_da.report.plots import plot_losses
from lora_da.report.provenance import describe_machine, find_versions
from lora_da.system.files import atomic_path, refuse_existing, refuse_overlap, write_text
from lora_da.workflows.demo.arithmetic import make_problems
from lora_da.workflows.finite_trainer import FiniteTrainer
from lora_da.workflows.settings import AdapterShape, DemoSettings

CAVEAT = (
    "One learning rate and one seed are no evidence that either method is better: each has its own best learning rate, "
    "and differences of this size can be noise."
)
_PARTS = ("lora", "lora-da", "loss.png", "demo.json")


@dataclass(frozen=True)
class DemoResult:
    """One method's result.

    Attributes:
        curve: (step, held-out loss in nats per label token), from step 0 on.
        init_seconds: Time of the initialisation from data; 0 without one.
        training_seconds: Time of the training, its evaluations included.
    """

    curve: list[tuple[int, float]]
    init_seconds: float
    training_seconds: float


def run_demo(output: Path, settings: DemoSettings, *, overwrite: bool = False) -> dict[str, DemoResult]:
    """Fine-tune from LoRA-DA and from plain LoRA, with the same seed and budget.

    Returns:
        What came out, by the method's name.

    An earlier demo in ``output`` is replaced once all of this one is whole.

    Raises:
        FileExistsError: ``output`` exists and ``overwrite`` is false, or it holds something that is no demo.
        FileNotFoundError: The package with the model is not installed; the message says how to.
    """
    source = ModelSource(settings.model, dtype="float32")
    refuse_existing(output, overwrite=overwrite)
    if any((output / name).exists() for name in _PARTS) and not (output / "demo.json").is_file():
        raise FileExistsError(f"{output} holds something that is no demo and is not replaced; choose another folder")
    source = dataclasses.replace(source, model=source.path)  # or say what is not installed, before anything is made
    refuse_overlap({"the output": output}, {"the model": source.path})
    results = {}
    with ExitStack() as drafts:
        drafted = {name: drafts.enter_context(atomic_path(output / name, overwrite=True)) for name in _PARTS}
        for name, folder in (("LoRA", "lora"), ("LoRA-DA", "lora-da")):
            print(f"\n== {name}")
            # A model file is converted inside the demo's folder, where a second demo finds it.
            results[name] = _train(
                load_model(source, output / folder), settings, drafted[folder], from_data=name == "LoRA-DA"
            )
        curves = {name: result.curve for name, result in results.items()}
        plot_losses(curves, _base_loss(results), drafted["loss.png"])
        content = {
            "caveat": CAVEAT,
            "settings": dataclasses.asdict(settings),
            "machine": describe_machine(),
            "finished": time.strftime("%Y-%m-%d"),
            "versions": find_versions(),
            "results": {name: dataclasses.asdict(result) for name, result in results.items()},
        }
        write_text(drafted["demo.json"], json.dumps(content, indent=1, allow_nan=False) + "\n")
    return results


def table_of(results: dict[str, DemoResult]) -> list[tuple[str, ...]]:
    """A header, and a row for the base model and for each method."""
    base = f"{_base_loss(results):.4f}"
    rows: list[tuple[str, ...]] = [
        ("", "loss at the start", "loss at the end", "init", "training"),
        ("base model", base, base, "–", "–"),
    ]
    for name, result in results.items():
        losses = (f"{result.curve[0][1]:.4f}", f"{result.curve[-1][1]:.4f}")
        rows.append((name, *losses, f"{result.init_seconds:.0f} s", f"{result.training_seconds:.0f} s"))
    return rows


def _base_loss(results: dict[str, DemoResult]) -> float:
    return results["LoRA"].curve[0][1]  # its B is zero at the start


def _train(loaded: LoadedModel, settings: DemoSettings, output: Path, *, from_data: bool) -> DemoResult:
    """Train one adapter and write it, its starting point decided by the data or by chance."""
    trainer = _trainer(loaded, settings, output)
    init_seconds = 0.0
    if from_data:
        config = LoraDAConfig(seed=settings.seed)
        report = initialize_from_trainer(trainer, config, max_examples=settings.examples)
        init_seconds = sum(report.seconds.values())
        print(report)
    losses = {0: trainer.evaluate()["eval_loss"]}
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    model: Any = trainer.model
    model.save_pretrained(str(output))
    losses |= {int(entry["step"]): entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    if settings.steps not in losses:
        losses[settings.steps] = trainer.evaluate()["eval_loss"]
    return DemoResult(list(losses.items()), init_seconds, seconds)


def _trainer(loaded: LoadedModel, settings: DemoSettings, output: Path) -> FiniteTrainer:
    train, held_out = (
        datasets.Dataset.from_list(rows) for rows in make_problems(held_out=settings.held_out, seed=settings.seed)
    )
    args: Any = SFTConfig(
        output_dir=str(output),
        max_steps=settings.steps,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=settings.held_out,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(0.03 * settings.steps)),
        seed=settings.seed,
        max_length=256,
        eval_strategy="steps",
        eval_steps=max(1, settings.steps // settings.evaluations),
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
    )
    return FiniteTrainer(
        loaded.model,
        args,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=loaded.tokenizer,
        peft_config=AdapterShape().lora_config(),
    )

"""LoRA-DA and plain LoRA on a small real model: the work behind ``lora-da demo``."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from trl.trainer.sft_config import SFTConfig

from lora_da.api import initialize_from_trainer
from lora_da.config import LoraDAConfig
from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import load_model
from lora_da.report.plots import plot_rates
from lora_da.system.files import atomic_path, write_text
from lora_da.system.provenance import describe_command, describe_machine, find_versions
from lora_da.workflows.demo.arithmetic import make_problems
from lora_da.workflows.finite_trainer import FiniteTrainer
from lora_da.workflows.settings import DEMO_PARTS, AdapterShape, DemoSettings
from lora_da.workflows.sft.progress import show_progress

CAVEAT = (
    "One seed and so short a training are no evidence that either method is better. Compare what each reaches at its "
    "own best learning rate, and expect differences to shrink as training goes on."
)


@dataclass(frozen=True)
class DemoResult:
    """One method's result; losses are those of held-out problems, in nats per label token.

    Attributes:
        start: The loss before training.
        ends: The loss after it, by the learning rate.
        init_seconds: Time of the initialisation from data; 0 without one.
        training_seconds: Time of one training, their mean.
    """

    start: float
    ends: dict[float, float]
    init_seconds: float
    training_seconds: float


def run_demo(output: Path, settings: DemoSettings, *, overwrite: bool = False) -> dict[str, DemoResult]:
    """Fine-tune from LoRA-DA and from plain LoRA at three learning rates, with the same seed and budget.

    Returns:
        What came out, by the method's name.

    An earlier demo in ``output`` is replaced once all of this one is whole.

    Raises:
        FileExistsError: ``output`` exists and ``overwrite`` is false, or it holds something that is no demo.
        FileNotFoundError: The package with the model is not installed; the message says how to.
    """
    settings.check(output, overwrite=overwrite)
    source = ModelSource(ModelSource(settings.model).path, dtype="float32")
    results = {}
    with ExitStack() as drafts:
        drafted = {name: drafts.enter_context(atomic_path(output / name, overwrite=True)) for name in DEMO_PARTS}
        # A model file is converted inside the demo's folder, where a second demo finds it.
        loaded = load_model(source, output / "model")
        torch.manual_seed(settings.seed)
        model = get_peft_model(loaded.model, AdapterShape().lora_config())
        random = _copy(get_peft_model_state_dict(model))
        for name, folder in (("LoRA", "lora"), ("LoRA-DA", "lora-da")):
            print(f"\n== {name}")
            set_peft_model_state_dict(model, random)
            results[name] = _compare_rates(
                model, loaded.tokenizer, settings, drafted[folder], from_data=name == "LoRA-DA"
            )
        plot_rates({name: result.ends for name, result in results.items()}, results["LoRA"].start, drafted["loss.png"])
        content = {
            "caveat": CAVEAT,
            "settings": dataclasses.asdict(settings),
            "command": describe_command(),
            "machine": describe_machine(),
            "finished": time.strftime("%Y-%m-%d"),
            "versions": find_versions(),
            "results": {name: dataclasses.asdict(result) for name, result in results.items()},
        }
        write_text(drafted["demo.json"], json.dumps(content, indent=1, allow_nan=False) + "\n")
    return results


def table_of(results: dict[str, DemoResult]) -> list[tuple[str, ...]]:
    """A header, and a row for the base model and for each method; plain LoRA starts where the base model is."""
    rates = (f"rate {rate:.1e}" for rate in results["LoRA"].ends)
    rows: list[tuple[str, ...]] = [("loss", "at the start", *rates, "init", "training")]
    for name, result in results.items():
        losses = (f"{loss:.4f}" for loss in (result.start, *result.ends.values()))
        rows.append((name, *losses, f"{result.init_seconds:.0f} s", f"{result.training_seconds:.0f} s"))
    return rows


def _compare_rates(
    model: PeftModel, tokenizer: Any, settings: DemoSettings, output: Path, *, from_data: bool
) -> DemoResult:
    """Train one adapter at each rate and write the best, its starting point decided by the data or by chance."""
    problems = [
        datasets.Dataset.from_list(rows) for rows in make_problems(held_out=settings.held_out, seed=settings.seed)
    ]
    trainer = _trainer(model, tokenizer, problems, settings, settings.learning_rate, output)
    init_seconds = 0.0
    if from_data:
        config = LoraDAConfig(seed=settings.seed)
        report = initialize_from_trainer(trainer, config, max_examples=settings.examples)
        init_seconds = sum(report.seconds.values())
        print(report)
    start, begin = trainer.evaluate()["eval_loss"], _copy(get_peft_model_state_dict(model))
    ends: dict[float, float] = {}
    best = begin
    started = time.perf_counter()
    for rate in settings.learning_rates:
        set_peft_model_state_dict(model, begin)
        trainer = _trainer(model, tokenizer, problems, settings, rate, output)
        trainer.train()
        ends[rate] = trainer.evaluate()["eval_loss"]
        if ends[rate] == min(ends.values()):
            best = _copy(get_peft_model_state_dict(model))
    seconds = (time.perf_counter() - started) / len(ends)
    set_peft_model_state_dict(model, best)
    model.save_pretrained(str(output))
    return DemoResult(start, ends, init_seconds, seconds)


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _trainer(
    model: PeftModel,
    tokenizer: Any,
    problems: Sequence[datasets.Dataset],
    settings: DemoSettings,
    rate: float,
    output: Path,
) -> FiniteTrainer:
    train, held_out = problems
    args: Any = SFTConfig(
        output_dir=str(output),
        max_steps=settings.steps,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=settings.held_out,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(0.03 * settings.steps)),
        seed=settings.seed,
        max_length=256,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
    )
    trainer = FiniteTrainer(model, args, train_dataset=train, eval_dataset=held_out, processing_class=tokenizer)
    show_progress(trainer)
    return trainer

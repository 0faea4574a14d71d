"""A model, with an adapter or without, measured on data: the work behind ``lora-da evaluate``."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_da.workflows.sources import ModelSource
from peft import PeftConfig, PeftModel
from scipy.stats import binomtest
from scipy.stats import t as student
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from lora_da.loading.models import LoadedModel
from lora_da.loading.rows import fingerprint, load_rows
from lora_da.report.provenance import describe_machine, find_versions
from lora_da.system.files import write_text
from lora_da_bench.running.evaluation import ItemLosses, item_losses
from lora_da_bench.running.harness import check_harness, run_harness
from lora_da_bench.tasks.registry import make_task
from lora_da_bench.tasks.task import Answer, Task
from lora_da_bench.tasks.text import Text

_CONFIDENCE = 0.95
_RESAMPLES = 1000
_PACKAGES = ("lora-da", "torch", "peft", "transformers", "datasets", "scikit-learn", "math-verify", "lm-eval")


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A task and the data to measure it on.

    Attributes:
        kind: A name in the registry of tasks.
        data: A file or a Hugging Face id.
        split: The split of a Hugging Face data set.
        options: The task's columns and lengths; its defaults for what is not named.
    """

    kind: str
    data: str
    split: str = "test"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def evaluate_model(
    source: ModelSource,
    output: Path,
    *,
    task_data: TaskData | None = None,
    lm_eval: Sequence[str] = (),
    adapter: Path | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measure losses and scores; write them as JSON, and the raw outputs beside it as JSON Lines.

    Args:
        source: The base model.
        output: The JSON file; the outputs go to the same name with the suffix ``.jsonl``.
        task_data: What to measure.
        lm_eval: Names of tasks of lm-eval, to run as well.
        adapter: A PEFT adapter folder.
        batch_size: Examples handled at once. In float32 it does not change a score.
        limit: Only the first so many rows, of plain text blocks.
        overwrite: Replace files that are there.

    Returns:
        What was written as JSON, numbers that are infinite or undefined included.

    Raises:
        FileExistsError: A file is there and ``overwrite`` is false.
        FileNotFoundError: The adapter, the data or the model is not there.
        ModuleNotFoundError: lm-eval is asked for and not installed.
        ValueError: Model, adapter, task and data do not fit together.
    """
    task = None if task_data is None else make_task(task_data.kind, task_data.options)
    _check(task, lm_eval, adapter, output, batch_size, limit, overwrite=overwrite)
    content: dict[str, Any] = {}
    rows = None
    if task_data is not None:
        rows = load_rows(task_data.data, task_data.split)
        rows = rows.select(range(min(len(rows), limit or len(rows))))
        about = {"name": task_data.data, "split": task_data.split, "rows": len(rows), "fingerprint": fingerprint(rows)}
        content["data"] = about
    loaded = source.load(
        output, head=task.head if task else "language model", classes=task.class_count if task else None
    )
    model = _with_adapter(loaded, adapter)
    content["settings"] = {
        "model": loaded.path,
        "revision": loaded.revision,
        "adapter": None if adapter is None else str(adapter),
        "task": None if task_data is None else {"kind": task_data.kind, **dataclasses.asdict(task)},  # type: ignore[call-overload]
        "limit": limit,
        "batch_size": batch_size,
        "dtype": source.dtype if source.dtype != "auto" else str(loaded.model.dtype).removeprefix("torch."),
        "device": str(loaded.model.device),
    }
    content |= {"versions": find_versions(_PACKAGES), "machine": describe_machine()}
    lines: list[dict[str, Any]] = []
    if task is not None:
        losses = _losses(task, model, loaded.tokenizer, rows, batch_size, limit)
        answers = [] if isinstance(task, Text) else task.answer(model, loaded.tokenizer, rows, batch_size)
        content["figures"] = _figures(task, losses, answers)
        lines += _lines(losses, answers)
    if lm_eval:
        content["lm_eval"] = found = run_harness(model, loaded.tokenizer, lm_eval, batch_size, limit)
        samples = found.pop("samples", {})
        lines += [{"lm_eval": name, **sample} for name, some in samples.items() for sample in some]
    write_text(_outputs(output), "".join(_json(line) + "\n" for line in lines), overwrite=overwrite)
    write_text(output, _json(content, indent=1) + "\n", overwrite=overwrite)
    return content


def _outputs(output: Path) -> Path:
    return output.with_suffix(".jsonl")


def _check(
    task: Task | None,
    lm_eval: Sequence[str],
    adapter: Path | None,
    output: Path,
    batch_size: int,
    limit: int | None,
    *,
    overwrite: bool,
) -> None:
    """Refuse what can be refused before any work."""
    if task is None and not lm_eval:
        raise ValueError("there is nothing to measure: name data and a task, or tasks of lm-eval")
    if lm_eval:
        check_harness()
        if task is not None and task.head != "language model":
            raise ValueError("lm-eval's tasks need a language model, and this task a classifier: run them apart")
    if batch_size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"batch size and limit must be at least 1, not {batch_size} and {limit}")
    if adapter is not None and not (adapter / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{adapter} is no adapter folder: it has no adapter_config.json")
    if output.suffix != ".json":
        raise ValueError(f"the output {output} must end in .json; the raw outputs go beside it as .jsonl")
    for path in (output, _outputs(output)):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already; choose another name or ask for overwriting")


def _with_adapter(loaded: LoadedModel, adapter: Path | None) -> Any:
    """The model with the adapter on it, by plain PEFT."""
    config = None if adapter is None else PeftConfig.from_pretrained(str(adapter))
    saved = tuple(f".{name}." for name in getattr(config, "modules_to_save", None) or ())
    random_weights = [name for name in loaded.fresh if not any(part in f".{name}" for part in saved)]
    if random_weights:
        raise ValueError(
            f"the model {loaded.path} lacks {', '.join(random_weights)}, and no adapter brings them: any score would "
            "be that of random weights. Name a model that was trained for this task, or an adapter whose "
            "modules_to_save hold them"
        )
    if config is None:
        return loaded.model
    made_on = config.base_model_name_or_path
    try:
        model = PeftModel.from_pretrained(loaded.model, str(adapter))
    except (RuntimeError, ValueError) as error:  # names or shapes differ
        raise ValueError(f"the adapter {adapter}, made on {made_on}, does not fit {loaded.path}") from error
    if made_on is not None and made_on != loaded.path and Path(made_on).resolve() != Path(loaded.path).resolve():
        warnings.warn(
            f"the adapter {adapter} was made on {made_on} and is measured on {loaded.path}: see that both are the same",
            stacklevel=3,
        )
    return model.eval()


def _losses(task: Task, model: Any, tokenizer: Any, rows: Any, batch_size: int, limit: int | None) -> ItemLosses:
    examples = task.encode(rows, tokenizer)
    examples = examples.select(range(min(len(examples), limit or len(examples))))
    batches: Any = DataLoader(examples, batch_size, collate_fn=task.collator(tokenizer))
    return item_losses(model, tqdm(batches, desc="Losses", unit="batch"))


def _figures(task: Task, losses: ItemLosses, answers: Sequence[Answer]) -> dict[str, Any]:
    """The loss, its perplexity, and the scores, each with an interval of 95 %."""
    figures: dict[str, Any] = {"loss": losses.mean, "examples": len(losses.losses), "labels": sum(losses.labels)}
    if task.head == "language model":
        figures["perplexity"] = _exponential(losses.mean)
    if answers:
        figures |= {
            "answers": len(answers),
            "correct": sum(answer.correct for answer in answers),
            **task.scores(answers),
        }
    of_loss = _loss_interval(losses)
    intervals = {} if of_loss is None else {"loss": of_loss}
    if of_loss is not None and task.head == "language model":
        intervals["perplexity"] = _exponential(of_loss[0]), _exponential(of_loss[1])
    figures["intervals"] = intervals | (_intervals(task, answers) if answers else {})
    return figures


def _exponential(value: float) -> float:
    return math.exp(value) if not value > 700 else math.inf


def _loss_interval(losses: ItemLosses) -> tuple[float, float] | None:
    """Student's interval over the examples for the loss per label, which is a ratio of two sums and is linearised."""
    count, total, mean = len(losses.losses), sum(losses.labels), losses.mean
    if count < 2 or not math.isfinite(mean):
        return None
    residuals = (loss - mean * labels for loss, labels in zip(losses.losses, losses.labels, strict=True))
    error = math.sqrt(math.fsum(residual**2 for residual in residuals) * count / (count - 1)) / total
    half = float(student.ppf((1 + _CONFIDENCE) / 2, count - 1)) * error
    return mean - half, mean + half


def _intervals(task: Task, answers: Sequence[Answer]) -> dict[str, tuple[float, float]]:
    """Wilson's interval for the accuracy; for other scores the percentiles over resampled answers."""
    correct = sum(answer.correct for answer in answers)
    wilson = binomtest(correct, len(answers)).proportion_ci(_CONFIDENCE, method="wilson")
    found = {"accuracy": (float(wilson.low), float(wilson.high))}
    others = task.scores(answers).keys() - found.keys()
    if others:
        generator = random.Random(0)
        resamples = (generator.choices(answers, k=len(answers)) for _ in range(_RESAMPLES))
        scores = [task.scores(resample) for resample in tqdm(resamples, total=_RESAMPLES, desc="Resampling")]
        tail = round((1 - _CONFIDENCE) / 2 * _RESAMPLES)
        for name in sorted(others):
            ordered = sorted(score[name] for score in scores)
            found[name] = ordered[tail], ordered[-1 - tail]
    return found


def _lines(losses: ItemLosses, answers: Sequence[Answer]) -> Iterator[dict[str, Any]]:
    """A line for each row, with its loss unless rows were left out of the losses; without answers, for each block."""
    each = [{"loss": loss, "labels": labels} for loss, labels in zip(losses.losses, losses.labels, strict=True)]
    if not answers:
        yield from each
        return
    aligned = len(each) == len(answers)
    for index, answer in enumerate(answers):
        yield {"row": index, **dataclasses.asdict(answer), **(each[index] if aligned else {})}


def _json(content: Any, indent: int | None = None) -> str:
    """As JSON, which has no infinite or undefined numbers: they become null; unknown objects become text."""
    plain = json.loads(json.dumps(content, default=str), parse_constant=lambda _: None)
    return json.dumps(plain, indent=indent, ensure_ascii=False)

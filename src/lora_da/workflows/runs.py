"""A fine-tuning run as a folder that can be resumed: the work behind ``lora-da train``."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import datasets
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import set_seed

from lora_da.config import LoraDAConfig
from lora_da.loading.models import LoadedModel
from lora_da.loading.rows import fingerprint
from lora_da.report.initialization import REPORT_FILE
from lora_da.report.provenance import find_versions
from lora_da.system.files import write_text
from lora_da.workflows.adapter_folder import save_adapter
from lora_da.workflows.init import initialize_from_rows
from lora_da.workflows.sources import AdapterShape, Calibration, DataSource, ModelSource, calibration_indices
from lora_da.workflows.trainer import check_device
from lora_da.workflows.training import CHECKPOINTS, HISTORY_FILE, TrainingRecord, TrainingSettings, fine_tune

RECORD_FILE = "training.json"
_PLAN_FILE = "run.json"
_START = "initial_adapter"
_PARTS = (RECORD_FILE, _PLAN_FILE, HISTORY_FILE, CHECKPOINTS, _START, "adapter", "loss.png")


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training starts: an adapter folder, or a fresh adapter.

    Attributes:
        adapter: The folder; None for a fresh adapter, which the other fields describe.
        init: "lora" (PEFT's default) or "lora-da".
        shape: Its shape.
        config: LoRA-DA's settings.
        calibration: LoRA-DA's sample, drawn from the training rows alone.
    """

    adapter: Path | None = None
    init: str = "lora-da"
    shape: AdapterShape = dataclasses.field(default_factory=AdapterShape)
    config: LoraDAConfig = dataclasses.field(default_factory=LoraDAConfig)
    calibration: Calibration = dataclasses.field(default_factory=Calibration)

    def __post_init__(self) -> None:
        if self.init not in ("lora", "lora-da"):
            raise ValueError(f"init must be lora or lora-da, not {self.init!r}")
        if self.adapter is not None and not (self.adapter / "adapter_config.json").is_file():
            raise FileNotFoundError(f"{self.adapter} is no adapter folder: it has no adapter_config.json")

    def describe(self) -> dict[str, Any]:
        """What to record of it."""
        if self.adapter is not None:
            return {"init": "adapter", "adapter": str(self.adapter)}
        about = {"init": self.init, **dataclasses.asdict(self.shape)}
        if self.init == "lora-da":
            about |= {"config": dataclasses.asdict(self.config), "calibration": dataclasses.asdict(self.calibration)}
        return about


def train_adapter(
    source: ModelSource,
    data: DataSource,
    settings: TrainingSettings,
    output: Path,
    start: Start,
    *,
    eval_data: DataSource | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainingRecord:
    """Load a model, start from an adapter folder or a fresh initialisation, and fine-tune.

    Args:
        source: The base model.
        data: The training data.
        settings: How to train.
        output: The folder for everything that comes out.
        start: Where to start.
        eval_data: Held-out data; by default some rows of ``data`` are set aside, the same for every seed, and none
            that an adapter folder was calibrated on.
        resume: Go on with an interrupted run in ``output``; it must be the same run.
        overwrite: Replace the run in ``output``.

    Raises:
        FileExistsError: ``output`` holds a finished run, or an interrupted one and neither ``resume`` nor
            ``overwrite`` is given.
        ValueError: The held-out data are the training data, the run to resume was another one, or training can't be
            sent to that device.
    """
    check_device(source.device)
    _check_folder(output, resume=resume, overwrite=overwrite)
    if overwrite and start.adapter is not None and start.adapter.resolve().is_relative_to(output.resolve()):
        raise ValueError(
            f"the adapter {start.adapter} lies in {output}, which --overwrite empties: choose another folder"
        )
    rows = data.rows()
    if eval_data is None:
        kept = _calibrated_on(start.adapter, rows)
        rows, held_out_rows = split_rows(rows, settings.held_out, keep=kept)
        if kept:
            warnings.warn(
                "the held-out rows are none that the adapter was calibrated on, so they are others than without it: to "
                "compare runs, give them all the same --eval-data",
                stacklevel=2,
            )
        eval_data = data
    else:
        held_out_rows = eval_data.rows()
    prints = {"training": fingerprint(rows), "held_out": fingerprint(held_out_rows)}
    if prints["training"] == prints["held_out"]:
        raise ValueError("the held-out data are the training data: give others with --eval-data, or none")
    plan: dict[str, Any] = {
        "model": source.name,
        "dtype": source.dtype,
        "settings": dataclasses.asdict(settings),
        "start": start.describe(),
        "data": prints | {"columns": dataclasses.asdict(data.columns), "max_length": data.max_length},
    }
    if overwrite:
        _remove_run(output)
    _check_plan(plan, output / _PLAN_FILE)

    loaded = source.load(output)
    set_seed(settings.seed)
    model, seconds = _with_adapter(loaded, rows, data, output, start)
    # Not before the start has worked: a failed one leaves the folder free.
    write_text(output / _PLAN_FILE, json.dumps(plan, indent=1) + "\n", overwrite=True)
    train = data.tokenized(rows, loaded.tokenizer)
    held_out = eval_data.tokenized(held_out_rows, loaded.tokenizer)
    record = fine_tune(model, loaded.tokenizer, train, held_out, settings, output, resume=resume)
    content = plan | {
        "versions": find_versions(),
        "rows": {"training": len(rows), "held_out": len(held_out_rows)},
        "init_seconds": seconds,
        "record": dataclasses.asdict(record),
    }
    write_text(output / RECORD_FILE, json.dumps(content, indent=1) + "\n", overwrite=True)
    return record


def split_rows(
    rows: datasets.Dataset, held_out: int, keep: list[int] | None = None
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Set some rows aside, at most a fifth of them, and always the same.

    Args:
        rows: All rows.
        held_out: How many to set aside.
        keep: Indices of rows that stay with the training rows.

    Returns:
        The training rows and the others.

    Raises:
        ValueError: There are too few rows to do so.
    """
    kept = set(keep or ())
    free = rows.select([index for index in range(len(rows)) if index not in kept])
    count = min(held_out, len(rows) // 5, len(free) - 1)
    if count < 1:
        raise ValueError(f"{len(rows)} rows are too few to hold some out; give held-out data (--eval-data)")
    parts = free.train_test_split(test_size=count, seed=0)
    return datasets.concatenate_datasets([parts["train"], rows.select(sorted(kept))]), parts["test"]


def _calibrated_on(adapter: Path | None, rows: datasets.Dataset) -> list[int]:
    """Which of the rows an adapter folder was calibrated on, as far as its record tells."""
    if adapter is None or not (adapter / REPORT_FILE).is_file():
        return []
    provenance = json.loads((adapter / REPORT_FILE).read_text(encoding="utf-8")).get("provenance", {})
    if "calibration" not in provenance:
        return []
    if provenance.get("data_fingerprint") != fingerprint(rows):
        warnings.warn(
            f"the adapter {adapter} was calibrated on other rows than these, or on these before they changed: it may "
            "have seen some of the held-out ones. To be sure, give --eval-data",
            stacklevel=3,
        )
        return []
    sample: dict[str, int] = provenance["calibration"]
    return calibration_indices(len(rows), sample["examples"], sample["seed"])


def _check_folder(output: Path, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise ValueError("--resume goes on with a run and --overwrite starts it anew: give one of them")
    if not output.exists() or not any(output.iterdir()):
        if resume:
            raise FileNotFoundError(f"there is no run in {output} to resume; leave --resume out to start one")
        return
    if overwrite:
        return
    if (output / RECORD_FILE).exists():
        raise FileExistsError(f"{output} holds a finished run; choose another folder, or give --overwrite")
    if not resume:
        raise FileExistsError(f"{output} holds something, perhaps an interrupted run: --resume or --overwrite it")


def _check_plan(plan: dict[str, Any], file: Path) -> None:
    """Compare a run's plan with that of the run to resume, if there is one."""
    if not file.is_file():
        return
    plan = json.loads(json.dumps(plan))
    before = json.loads(file.read_text(encoding="utf-8"))
    other = [key for key in plan if plan[key] != before.get(key)]
    if other:
        raise ValueError(
            f"the run in {file.parent} was another one: its {' and '.join(other)} differ. Give the same options to "
            "--resume it, or --overwrite it"
        )


def _remove_run(output: Path) -> None:
    for name in _PARTS:
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _with_adapter(
    loaded: LoadedModel, rows: datasets.Dataset, data: DataSource, output: Path, start: Start
) -> tuple[PeftModel, float]:
    """The model with the adapter that training starts from, and the seconds that its initialisation took."""
    folder = start.adapter
    if folder is None and start.init == "lora":
        return get_peft_model(loaded.model, start.shape.lora_config()), 0.0
    if folder is None and (output / _START / "adapter_config.json").is_file():
        folder = output / _START  # of the interrupted run
    if folder is None:
        model, report, about = initialize_from_rows(loaded, rows, data, start.shape, start.config, start.calibration)
        save_adapter(
            model, output / _START, base=loaded.path, revision=loaded.revision, report=report, provenance=about
        )
    else:
        try:
            model = PeftModel.from_pretrained(loaded.model, folder, is_trainable=True)
        except (RuntimeError, ValueError) as error:  # names or shapes differ
            made_on = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
            raise ValueError(f"the adapter {folder}, made on {made_on}, does not fit {loaded.path}") from error
        config: Any = model.peft_config["default"]
        if not _same_place(config.base_model_name_or_path, loaded.path):
            warnings.warn(
                f"the adapter {folder} was made on {config.base_model_name_or_path}, and is trained on {loaded.path}",
                stacklevel=2,
            )
        config.base_model_name_or_path = loaded.path
    record = folder / REPORT_FILE if folder is not None else output / _START / REPORT_FILE
    if not record.is_file():
        return model, 0.0
    return model, sum(json.loads(record.read_text(encoding="utf-8"))["report"]["seconds"].values())


def _same_place(first: str | None, second: str) -> bool:
    return first == second or (first is not None and Path(first).resolve() == Path(second).resolve())

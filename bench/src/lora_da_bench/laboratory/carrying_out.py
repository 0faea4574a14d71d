"""Carrying out the runs of a laboratory, those that are missing."""

from __future__ import annotations

import copy
import functools
import math
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from lora_da.loading import ModelSource, load_model
from lora_da.system.files import refuse_overlap
from lora_da.system.locks import lock_folder
from lora_da_bench.laboratory.data.domains import Domain, count_classes, load_domain
from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.estimators.sample import LayerSample, collect_samples
from lora_da_bench.laboratory.estimators.scale import whiten_outputs
from lora_da_bench.laboratory.estimators.subspaces import SUBSPACES
from lora_da_bench.laboratory.head import FITTED_EXAMPLES, fit_head
from lora_da_bench.laboratory.library_start import METHODS, start_by_library
from lora_da_bench.laboratory.runs import (
    DEFAULT,
    VANILLA,
    Grid,
    LaboratoryRecord,
    LaboratoryRun,
    append_record,
    list_missing,
    load_records,
)
from lora_da_bench.laboratory.settings import RECORDS, Settings, fix_settings
from lora_da_bench.laboratory.training import measure_examples, start_adapter, train_adapter
from lora_da_bench.running.progress import say_duration, silence_bars
from lora_da_bench.running.provenance import find_versions

Records = dict[LaboratoryRun, LaboratoryRecord]


def carry_out(grid: Grid, settings: Settings, model: str, folder: Path) -> Records:
    """Carry out the runs of a grid that are missing.

    Each finished run is a line of ``folder/runs.jsonl``, and the next call goes on from there.

    Args:
        grid: What is asked for.
        settings: The same for all runs of a folder.
        model: The folder of a causal language model or of one that classifies, as the domains need, or "minilm".
        folder: Of the runs.

    Returns:
        All runs of the folder, those of earlier calls and other grids too.

    Raises:
        BlockingIOError: Another process carries out runs in the folder.
        ValueError: A method, domain or grid can't be used, the folder holds runs of other settings, or it is the model
            or lies within it.
    """
    check_grid(grid)
    refuse_overlap({"--out": folder}, {"the model": model} | {f"the text {name}, at": name for name in grid.domains})
    with lock_folder(folder):
        return _carry_out(grid, settings, model, folder)


def _carry_out(grid: Grid, settings: Settings, model: str, folder: Path) -> Records:
    with silence_bars():
        bench = _Bench(grid, settings, model)
    fix_settings(folder, settings, bench.fingerprint, {name: d.fingerprint for name, d in bench.domains.items()})
    known = load_records(folder / RECORDS)
    missing = list_missing(grid, known)
    started = time.monotonic()
    for done, run in enumerate(missing, start=1):
        record = bench.carry_out(run)
        append_record(folder / RECORDS, record)
        known[run] = record
        left = (time.monotonic() - started) / done * (len(missing) - done)
        _print_progress(record, f"{done}/{len(missing)}", f", {say_duration(left)} left" if left else "")
    return known


def check_grid(grid: Grid) -> None:
    """Check the names of methods, that rates are positive numbers, and that no list is empty or has a value twice.

    Raises:
        ValueError: One does.
    """
    for method in grid.methods:
        if method not in METHODS:
            what = "is always there, with A trained" if method == VANILLA else f"is unknown: there are {[*METHODS]}"
            raise ValueError(f"the method {method!r} {what}")
    if not all(math.isfinite(rate) and rate > 0 for rate in grid.learning_rates):
        raise ValueError(f"learning-rates must be finite numbers above zero: {grid.learning_rates}")
    for name, values in vars(grid).items():
        if isinstance(values, tuple) and (not values or len(set(values)) < len(values)):
            raise ValueError(f"{name.replace('_', '-')} must be at least one value, each once: {values}")


def _print_progress(record: LaboratoryRecord, count: str, left: str) -> None:
    run = record.run
    loss = record.status if record.selection_loss is None else f"{record.selection_loss:.4f}"
    name = f"{run.domain} seed {run.seed} r {run.rank} lr {run.learning_rate:g} {run.arm}"
    print(f"{count} {name}: {loss} ({record.seconds:.0f} s{left})", file=sys.stderr, flush=True)


class _Bench:
    """A loaded model with the domains; what one run after another needs is kept, but not for all of them.

    Attributes:
        domains: By name.
        fingerprint: The first digits of the SHA-256 of the model's weights.
    """

    def __init__(self, grid: Grid, settings: Settings, model: str) -> None:
        self._classes = count_classes(grid.domains)
        head = "language model" if self._classes is None else "classifier"
        source = ModelSource(model, dtype="float32", device="cpu")
        loaded = load_model(source, head=head, num_labels=self._classes)
        loaded.model.config.use_cache = False
        self._loaded, self._settings = loaded.model, settings
        self.fingerprint = _fingerprint(loaded.model, loaded.fresh)
        self.domains: dict[str, Domain] = {
            name: load_domain(
                name,
                loaded.tokenizer,
                length=settings.length,
                selection=settings.selection_blocks,
                test=settings.test_blocks,
                needed=settings.calibration_blocks + settings.batch_size,
            )
            for name in grid.domains
        }
        self._code = find_versions()["code"]
        self._base = functools.lru_cache(maxsize=1)(self._make_base)
        self._model = functools.lru_cache(maxsize=1)(self._make_model)
        self._samples = functools.lru_cache(maxsize=1)(self._collect)
        self._rows = functools.lru_cache(maxsize=64)(self._find_rows)

    def carry_out(self, run: LaboratoryRun) -> LaboratoryRecord:
        """Carry out one run."""
        domain, model = self.domains[run.domain], self._model(run.domain, run.seed, run.rank)
        spanned = run.method in SUBSPACES
        A = self._rows(run.domain, run.seed, run.rank, run.method) if spanned else None
        calibration, training = self._draw(domain, run.seed)
        start_adapter(model, A, run.seed, train_a=run.train_a)
        if run.method == DEFAULT:
            start_by_library(model, calibration, self._population(domain, training), run.seed)
        started = time.perf_counter()
        train_loss = train_adapter(model, training, self._settings.batch_size, run.learning_rate)
        diverged = train_loss is None
        selection = [] if diverged else measure_examples(model, domain.selection)
        test = [] if diverged else measure_examples(model, domain.test)
        diverged = diverged or not bool(torch.isfinite(torch.tensor(selection + test)).all())
        return LaboratoryRecord(
            run=run,
            status="diverged" if diverged else "success",
            train_loss=None if diverged else train_loss,
            selection_loss=None if diverged else sum(selection) / len(selection),
            test_losses=() if diverged else tuple(test),
            seconds=round(time.perf_counter() - started, 2),
            code=self._code,
        )

    def _draw(self, domain: Domain, seed: int) -> tuple[Examples, Examples]:
        return domain.draw(self._settings.calibration_blocks, self._settings.training_blocks, seed)

    def _population(self, domain: Domain, training: Examples) -> int:
        """N: how many different examples a run sees."""
        return min(len(training), len(domain.pool) - self._settings.calibration_blocks)

    def _make_base(self, domain: str, seed: int) -> Any:
        """The model without an adapter, its head fitted."""
        if self._classes is None:
            return self._loaded
        model = copy.deepcopy(self._loaded)
        _, training = self._draw(self.domains[domain], seed)
        fit_head(model, training[:FITTED_EXAMPLES], seed)
        return model

    def _make_model(self, domain: str, seed: int, rank: int) -> PeftModel:
        config = LoraConfig(
            r=rank,
            lora_alpha=self._settings.alpha_per_rank * rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM" if self._classes is None else "SEQ_CLS",
        )
        found: Any = get_peft_model(copy.deepcopy(self._base(domain, seed)), config)
        return found  # type: ignore[no-any-return]

    def _collect(self, domain: str, seed: int) -> Mapping[str, LayerSample]:
        calibration, training = self._draw(self.domains[domain], seed)
        population = self._population(self.domains[domain], training)
        return collect_samples(self._base(domain, seed), calibration, population, seed)

    def _find_rows(self, domain: str, seed: int, rank: int, method: str) -> Mapping[str, Tensor]:
        samples = self._samples(domain, seed)
        return {
            name: whiten_outputs(SUBSPACES[method].rows(sample, rank), sample.input_factor)
            for name, sample in samples.items()
        }


def _fingerprint(model: Any, fresh: tuple[str, ...]) -> str:
    digest = sha256()
    for name, tensor in sorted((name, tensor) for name, tensor in model.state_dict().items() if name not in fresh):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]

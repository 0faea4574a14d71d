"""The report of an adapter, or of statistics, for choosing a rank: the work behind ``lora-da inspect``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lora_da.pipeline.solution import check_collection, report_layer, solve_layers
from lora_da.report.initialization import REPORT_FILE, InitializationReport, load_report
from lora_da.report.page import render_page
from lora_da.statistics.storage import load_statistics
from lora_da.system.files import refuse_existing, refuse_overlap, write_text
from lora_da.workflows.own_outputs import is_own_page
from lora_da.workflows.settings import preset_config
from lora_da.workflows.sft.first_look import INITIAL_ADAPTER


def check_page(page: Path, source: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file that ``lora-da inspect`` did not write, unless that is asked for, or that it reads.

    Raises:
        FileExistsError: Something else is there.
        ValueError: It is what is inspected.
    """
    refuse_existing(page, overwrite=overwrite or is_own_page(page))
    files = [source] if source.is_file() else [source / name for name in ("adapter_config.json", "lora_da.json")]
    files += [] if source.is_file() else [source / "adapter_model.safetensors"]
    for file in files:
        refuse_overlap({"the page": page}, {"the file": file})


def read_report(source: Path, rank: int, preset: str) -> InitializationReport:
    """The report in an adapter's folder; or of a statistics file, solved by a preset, as an initialisation's would be.

    Of each layer in a file, ``rank`` eigenpairs are found (or its input width, if that is less).

    Raises:
        FileNotFoundError: There is no such folder or file, or the folder has no report.
        ValueError: The file holds no statistics.
    """
    if source.is_dir():
        start = source / INITIAL_ADAPTER  # of `lora-da sft`
        return load_report(start if start.is_dir() and not (source / REPORT_FILE).is_file() else source)
    statistics = load_statistics(source)
    config = dataclasses.replace(preset_config(preset, seed=0), population_size=statistics.population_size)
    check_collection(statistics, config)
    ranks = {name: min(rank, statistics.gradient_sums[name].shape[1]) for name in statistics.layers}
    inits, unsolved = solve_layers(statistics, ranks, config)
    if not inits:
        raise ValueError(f"{source} says nothing: of no layer does it hold a gradient that is not zero")
    return InitializationReport(
        layers={name: report_layer(init, tokens=statistics.tokens[name], scaling=1.0) for name, init in inits.items()},
        kept_default=unsolved,
        examples=statistics.examples,
        population_size=statistics.population_size,
        loss_before=statistics.loss_sum / statistics.examples,
        loss_after=None,
        seconds={},
        peak_memory_bytes=None,
        batch_dependent=statistics.batch_dependent,
        notices=(),
        config=config,
    )


def write_page(report: InitializationReport, page: Path, source: Path, budget: int, *, overwrite: bool) -> None:
    """Write a report as a page, see :func:`check_page`, with ranks for as many parameters as rank ``budget`` has."""
    check_page(page, source, overwrite=overwrite)
    write_text(page, render_page(report, f"LoRA-DA: {source}", budget), overwrite=True)

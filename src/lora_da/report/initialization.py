"""What an initialisation did: per layer and in total, to read, to save and to plot."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_da.config import CollectionConfig, LoraDAConfig
from lora_da.report.findings import list_findings
from lora_da.report.layers import LayerReport, tabulate_layers
from lora_da.report.page import render_page, render_snippet
from lora_da.report.ranks import suggest_ranks
from lora_da.system.files import write_text
from lora_da.system.json_file import read_object
from lora_da.system.provenance import find_versions

REPORT_FILE = "lora_da.json"

_WIDTH = 80


@dataclass(frozen=True, repr=False)
class InitializationReport:
    """What :func:`lora_da.initialize_lora_da_weights` did.

    Attributes:
        layers: By the layer's name in the base model.
        kept_default: Layers that keep PEFT's default init, with the reason.
        examples: The number of calibration examples.
        population_size: N as it was used; None if it was not known and did not matter.
        loss_before: The mean loss of the calibration examples without the adapter, in nats; None if not measured.
        loss_after: The same with the initialised adapter.
        seconds: Time by stage: "statistics", "solve", "step", "loss".
        peak_memory_bytes: The peak of the device's memory, or of the process's if it ran on the CPU.
        batch_dependent: Whether the examples' losses depended on the batches they came in.
        notices: What the user should know.
        config: The settings.
        label_tokens: The mean number of label tokens that an example's loss is the sum of, 1 where it is their mean;
            None where its labels are no tokens, or nothing is known of it.
        step_length: The part of the whole step that the adapter starts with, 0 where none lowers the loss of a few
            examples; None where it was not searched for.
    """

    layers: dict[str, LayerReport]
    kept_default: dict[str, str]
    examples: int
    population_size: int | None
    loss_before: float | None
    loss_after: float | None
    seconds: dict[str, float]
    peak_memory_bytes: int | None
    batch_dependent: bool
    notices: tuple[str, ...]
    config: LoraDAConfig
    label_tokens: float | None = None
    step_length: float | None = None

    @property
    def in_nats(self) -> bool:
        """Whether the eigenvalues are expected changes of the loss."""
        return self.config.metric == "loss"

    def __repr__(self) -> str:
        ranks = sorted({layer.rank for layer in self.layers.values()})
        rank = "–".join(map(str, dict.fromkeys((ranks[0], ranks[-1])))) if ranks else "none"
        return (
            f"InitializationReport({len(self.layers)} layers, rank {rank}, {self.examples} examples)\n"
            "  print() shows what was found, .write_page(path) writes a page, .to_dict() holds every figure"
        )

    def _repr_html_(self) -> str:
        return render_snippet(self)

    def __str__(self) -> str:
        lines = [f"LoRA-DA: {len(self.layers)} layers initialised from {self.examples} examples", ""]
        for finding in list_findings(self):
            lines += _wrap(str(finding))
        lines += ["", *self._table(), ""]
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items())
        peak = "" if self.peak_memory_bytes is None else f"; peak memory {self.peak_memory_bytes / 2**30:.2f} GiB"
        lines += [times + peak] if times + peak else []
        for notice in self.notices:
            lines += _wrap(f"note: {notice}")
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """The table of the kinds of layers; long names lose their beginning."""
        rows = tabulate_layers(self.layers, gains=self.in_nats)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - 2 * len(widths))
        names = [row[0] if len(row[0]) <= widths[0] else "…" + row[0][1 - widths[0] :] for row in rows]
        lines = []
        for name, row in zip(names, rows, strict=True):
            numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join(["", name.ljust(widths[0]), *numbers]))
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain numbers, strings, lists and dicts, as ``lora_da.json`` holds it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def suggested_rank_pattern(self, budget: int | None = None, *, largest: int | None = None) -> dict[str, int]:
        """Return the ranks that the data ask for, for ``LoraConfig(rank_pattern=…)``, as far as this report can tell.

        A report holds one direction more than each layer's rank, so initialise with a larger rank than the budget; or
        use :func:`lora_da.choose_ranks`, which solves for as many directions as it takes.

        Args:
            budget: As many parameters as this rank in every initialised layer has, where they gain most. Without it,
                every direction counts that lowers the expected loss by more than learning it costs.
            largest: The largest rank, if there is to be one; up to one more than the report's, nothing stays open.

        Raises:
            ValueError: The choice depends on directions that the report does not hold; or its metric is that of the
                parameters, whose eigenvalues are no losses.
        """
        if not self.in_nats:
            raise ValueError(
                "the report is in the metric of the parameters, in which directions of different layers can't be "
                "compared: use lora_da.choose_ranks with statistics"
            )
        return suggest_ranks(self.layers, budget, largest=largest)

    def save(
        self, directory: Path | str, *, provenance: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> Path:
        """Write ``lora_da.json`` into a folder, such as the one that ``save_pretrained`` wrote the adapter to.

        Args:
            directory: The folder; made if missing.
            provenance: More to record beside the report, such as a fingerprint of the data.
            overwrite: Replace a report that is there already.

        Raises:
            FileExistsError: There is one and ``overwrite`` is false.
        """
        path = Path(directory) / REPORT_FILE
        losses = {name: _finite(getattr(self, name)) for name in ("loss_before", "loss_after")}
        report = self.to_dict() | losses
        content = {"versions": find_versions(), "provenance": dict(provenance or {}), "report": report}
        write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n", overwrite=overwrite)
        return path

    def write_page(self, path: Path | str, *, title: str = "LoRA-DA", overwrite: bool = False) -> None:
        """Write one HTML file that needs no other, with every figure and what to do about it.

        Args:
            path: The file.
            title: Its title, such as the adapter's folder.
            overwrite: Replace a file that is there already.

        Raises:
            FileExistsError: There is one and ``overwrite`` is false.
        """
        write_text(path, render_page(self, title), overwrite=overwrite)


def _wrap(text: str) -> list[str]:
    """A paragraph in lines of a terminal's width, the second and later ones indented."""
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _finite(loss: float | None) -> float | None:
    """A loss as JSON has it; of one that is not finite a notice tells."""
    return loss if loss is not None and math.isfinite(loss) else None


def load_report(directory: Path | str) -> InitializationReport:
    """Read the report that :meth:`InitializationReport.save` wrote.

    Raises:
        FileNotFoundError: The folder has no ``lora_da.json``.
        ValueError: The file is none of this library's.
    """
    path = Path(directory) / REPORT_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} has no {REPORT_FILE}: no report was saved there, which report.save(DIR) does in Python"
        )
    try:
        report = read_object(path, "initialise the adapter anew")["report"]
        config = report.pop("config")
        collection = CollectionConfig(**config.pop("collection"))
        layers: dict[str, LayerReport] = {}
        for name, row in report.pop("layers").items():
            numbers: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
            layers[name] = LayerReport(**numbers)
        report["notices"] = tuple(report["notices"])
        return InitializationReport(layers=layers, config=LoraDAConfig(collection=collection, **config), **report)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no report of lora-da: {error}") from error

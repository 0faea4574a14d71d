"""What an initialisation did: per layer and in total, to read, to save and to plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lora_da.config import CollectionConfig, LoraDAConfig
from lora_da.report.layers import LayerReport, tabulate_layers
from lora_da.report.plots import plot_spectra
from lora_da.report.provenance import find_versions
from lora_da.system.files import write_text
from lora_da.system.json_file import read_object

REPORT_FILE = "lora_da.json"


@dataclass(frozen=True)
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
    step_length: float | None = None

    def __str__(self) -> str:
        lines = [f"LoRA-DA: {len(self.layers)} layers initialised from {self.examples} examples"]
        rows = tabulate_layers(self.layers)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        if self.loss_before is not None and self.loss_after is not None:
            lines.append(
                f"calibration loss per example (nats): {self.loss_before:.4f} before, {self.loss_after:.4f} after"
            )
        if self.step_length is not None:
            lines.append(
                f"first step: {self.step_length:.3g} of the whole one, as far as it lowers a few examples' loss"
            )
        times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items())
        peak = "" if self.peak_memory_bytes is None else f"; peak memory {self.peak_memory_bytes / 2**30:.2f} GiB"
        lines.append(times + peak)
        return "\n".join(lines + [f"note: {notice}" for notice in self.notices])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain numbers, strings, lists and dicts."""
        return asdict(self)

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

    def plot(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Draw the spectra and the captured energy as a PNG; needs matplotlib.

        Raises:
            FileExistsError: The file exists and ``overwrite`` is false.
        """
        plot_spectra(self.layers, path, overwrite=overwrite)


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
        raise FileNotFoundError(f"{directory} has no {REPORT_FILE}: it is no adapter made by lora-da")
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

"""An adapter as a folder that plain PEFT loads, with its origin recorded beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel

from lora_da.report.initialization import InitializationReport
from lora_da.system.files import atomic_path
from lora_da.workflows.model_card import word_card


def save_adapter(
    model: PeftModel,
    directory: Path | str,
    *,
    base: str,
    revision: str | None,
    report: InitializationReport,
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a standard PEFT adapter folder, with ``lora_da.json`` and a model card, or nothing at all.

    The adapter's ``base_model_name_or_path`` will be ``base``; ``provenance`` is more for ``lora_da.json``, such as a
    fingerprint of the data.

    Raises:
        FileExistsError: The folder exists and ``overwrite`` is false.
    """
    config: Any = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = base, revision
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)  # PEFT's set has another order in every process
    with atomic_path(directory, overwrite=overwrite) as folder:
        model.save_pretrained(str(folder))
        report.save(folder, provenance=provenance)
        (folder / "README.md").write_text(word_card(base, report), encoding="utf-8")

"""What ``--overwrite`` may replace: outputs of the same kind, and nothing that someone else has put there."""

from __future__ import annotations

from pathlib import Path

PAGE = "lora_da.html"
"""The page of an adapter's report, in its folder."""

_ADAPTER = {"adapter_config.json", "adapter_model.safetensors", "README.md", "lora_da.json", PAGE, "spectra.png"}


def check_adapter_folder(folder: Path) -> None:
    """Refuse to replace a folder that is there unless it is as ``lora-da init`` made it, or empty.

    Raises:
        FileExistsError: It holds something else, such as the checkpoints of a run, which would be lost with it.
    """
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else {""} if folder.exists() else set()
    foreign = sorted(held - _ADAPTER)
    if foreign or (held and "lora_da.json" not in held):
        what = f"holds {foreign[0]}, and so more than" if foreign and foreign[0] else "is no"
        raise FileExistsError(
            f"{folder} {what} an adapter as lora-da init makes it, and is not replaced; choose another folder"
        )


def check_statistics_file(file: Path) -> None:
    """Refuse to replace a file that is there unless it holds statistics.

    Raises:
        FileExistsError: It is something else.
    """
    if file.exists() and not _holds_statistics(file):
        raise FileExistsError(f"{file} is no file of statistics and is not replaced; choose another path")


def check_pair(folder: Path, file: Path | None) -> None:
    """Refuse to go on where statistics are there and their adapter is not, and say how to get it.

    Raises:
        FileExistsError: An earlier run has ended between the two.
    """
    if file is not None and not folder.exists() and file.is_file() and _holds_statistics(file):
        raise FileExistsError(
            f"{file} holds statistics already and {folder} is not there, as after a run that was stopped between the "
            f"two: --overwrite makes both anew, and `lora-da init MODEL --statistics {file}` an adapter from them alone"
        )


def is_own_page(file: Path) -> bool:
    """Say whether a file is a page that ``lora-da inspect`` wrote."""
    from lora_da.report.page import GENERATOR  # as below

    try:
        with file.open(encoding="utf-8") as opened:
            return f'<meta name="generator" content="{GENERATOR}">' in opened.read(500)
    except (OSError, UnicodeDecodeError):
        return False


def _holds_statistics(file: Path) -> bool:
    from lora_da.statistics.storage import is_statistics_file  # it brings torch, for which few calls need wait

    return is_statistics_file(file)

"""What ``--overwrite`` may replace, and what half of a job's outputs is called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lora_da.workflows.own_outputs import check_adapter_folder, check_pair, check_statistics_file

MADE = ("adapter_config.json", "adapter_model.safetensors", "README.md", "lora_da.json")


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


@pytest.mark.parametrize("names", [(), MADE, (*MADE, "spectra.png", "lora_da.html"), ("lora_da.json",)])
def test_an_adapter_of_ours_may_be_replaced(tmp_path: Path, names: tuple[str, ...]) -> None:
    check_adapter_folder(_folder(tmp_path / "a", *names))
    check_adapter_folder(tmp_path / "none")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((*MADE, "checkpoint-2"), "holds checkpoint-2, and so more than an adapter"),
        (MADE[:3], "is no an adapter"),  # of PEFT alone
        (("notes.txt",), "holds notes.txt"),
    ],
)
def test_what_is_not_ours_alone_stays(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    with pytest.raises(FileExistsError, match=told):
        check_adapter_folder(_folder(tmp_path / "a", *names))


def test_a_file_is_no_adapter_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(FileExistsError, match="is not replaced"):
        check_adapter_folder(tmp_path / "a")


def _statistics(path: Path) -> Path:
    save_file({"sum": torch.ones(1)}, path, {"lora-da-statistics": "{}"})
    return path


def test_only_statistics_are_replaced_by_statistics(tmp_path: Path) -> None:
    check_statistics_file(_statistics(tmp_path / "sums"))
    check_statistics_file(tmp_path / "none")
    save_file({"weight": torch.ones(1)}, tmp_path / "model.safetensors")
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("model.safetensors", "notes.txt"):
        with pytest.raises(FileExistsError, match=f"{name} is no file of statistics"):
            check_statistics_file(tmp_path / name)


def test_statistics_without_their_adapter_are_told(tmp_path: Path) -> None:
    folder, file = tmp_path / "adapter", tmp_path / "sums"
    check_pair(folder, None)
    check_pair(folder, file)
    with pytest.raises(FileExistsError, match=f"{folder} is not there.* --overwrite makes both anew"):
        check_pair(folder, _statistics(file))
    folder.mkdir()
    check_pair(folder, file)  # what is there already is told as that

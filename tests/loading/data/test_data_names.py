from __future__ import annotations

from pathlib import Path

import pytest

from lora_da.loading.data.data_names import check_data


@pytest.mark.parametrize("name", ["squad", "openai/gsm8k", "openai/gsm8k:main", "a.b/c_d-e:x y"])
def test_ids_of_the_hub_pass(name: str) -> None:
    check_data(name)


@pytest.mark.parametrize("name", ["./rows", "a/b/rows", "/nowhere", "two words", "rows.jsonl", "deep/rows.csv.gz"])
def test_paths_to_nothing_do_not(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="check the path"):
        check_data(name)


def test_files_and_folders_pass(tmp_path: Path) -> None:
    (tmp_path / "rows.JSON").write_text("{}")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").touch()
    for name in ("rows.JSON", "rows.JSON:key", "saved"):
        check_data(str(tmp_path / name))

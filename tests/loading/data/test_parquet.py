from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from lora_da.loading import load_rows
from lora_da.loading.data import limits, parquet


@pytest.mark.parametrize("name", ["d[1]", "s*", "a?", "k=1", "{a,b}", "a::b", "file:"])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".txt"])
def test_the_path_given_and_no_other(name: str, suffix: str, tmp_path: Path) -> None:
    for other in ("d1", "s", "s1", "a", "ab", "b"):
        _write(tmp_path / f"{other}{suffix}", "other")
    path = tmp_path / name / f"{name}{suffix}"
    with pytest.raises(FileNotFoundError, match="There is no data file"):
        load_rows(str(tmp_path / f"{name}{suffix}"))
    path.parent.mkdir()
    _write(path, "mine")
    assert load_rows(str(path)).to_list() == [{"text": "mine"}]


def _write(path: Path, text: str) -> None:
    rows = datasets.Dataset.from_list([{"text": text}])
    if path.suffix == ".parquet":
        with path.open("wb") as stream:
            rows.to_parquet(stream)
    elif path.suffix == ".txt":
        path.write_text(text)
    else:
        path.write_text(f'{{"text": "{text}"}}' if path.suffix == ".jsonl" else f"text\n{text}\n")


def test_claims_beyond_the_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_list([{"a": n, "b": str(n)} for n in range(2500)]).to_parquet(path)
    assert len(load_rows(str(path))) == 2500
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "ROWS", 2499)
        with pytest.raises(ValueError, match=r"a\.parquet could not be read as PARQUET: it claims 2,500 rows"):
            load_rows(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(limits, "COLUMNS", 1)
        with pytest.raises(ValueError, match="more than 1 columns"):
            load_rows(str(path))
    monkeypatch.setattr(limits, "free_bytes", lambda _: 50_000)
    with pytest.raises(ValueError, match=r"take about .* of memory"):
        load_rows(str(path))

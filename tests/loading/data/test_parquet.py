from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
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


def test_one_text_for_all_rows_is_refused_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = pa.array(["x" * 2**20])
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), long)
    nested = pa.StructArray.from_arrays([texts], ["text"])
    monkeypatch.setattr(limits, "free_bytes", lambda _: 2**32)
    for number, column in enumerate([texts, nested, pa.ListArray.from_arrays(list(range(5_001)), nested)]):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"a": column}), path, store_schema=False)
        before = pa.default_memory_pool().max_memory()
        with pytest.raises(ValueError, match=r"its first 3,000 rows take about 2\.93 GiB of memory"):
            load_rows(str(path))
        assert pa.default_memory_pool().max_memory() - before < 2**28


def test_bytes_are_counted_as_they_are_read(tmp_path: Path) -> None:
    """Of texts in all kinds of columns, those that are written out."""
    texts = ["some", None, "", "größer", "some"] * 300
    table = pa.table(
        {
            "plain": texts,
            "list": [[text, "a"] for text in texts],
            "messages": [[{"role": "user", "content": text}] for text in texts],
            "map": pa.array([[("key", text)] for text in texts], pa.map_(pa.string(), pa.string())),
            "number": list(range(len(texts))),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    leaves = ["plain", "list.list.element", "messages.list.element.content", "messages.list.element.role"]
    leaves += ["map.key_value.key", "map.key_value.value"]
    encoded = pq.read_table(tmp_path / "a.parquet", read_dictionary=leaves).combine_chunks()
    assert pa.types.is_dictionary(encoded["plain"].type)
    counted = sum(parquet._count_bytes(chunk) for column in encoded.columns for chunk in column.chunks)
    utf8 = sum(len(text.encode()) for text in texts if text)
    values = 6 * len(texts) + len(texts)  # with 4 bytes of an offset each
    known = 4 * utf8 + len(texts) * (len("a") + len("user") + len("key")) + 4 * values + 8 * len(texts)
    assert counted == pytest.approx(known, rel=0.02)

"""Reading every file format, and telling data sets apart."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from lora_da.loading.data.rows import fingerprint, load_rows

ROWS = [{"prompt": "2 + 3", "completion": "005"}, {"prompt": 'a "b", c\nd', "completion": "NA"}]


def _table(*rows: dict[str, Any]) -> datasets.Dataset:
    return datasets.Dataset.from_list(list(rows))


def _write(path: Path) -> Path:
    table = _table(*ROWS)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS, indent=2))
    elif path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="," if path.suffix == ".csv" else "\t", index=False)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_format_reads_the_same(suffix: str, compressed: bool, tmp_path: Path) -> None:
    path = _write(tmp_path / f"rows{suffix}")
    if compressed and suffix != ".parquet":  # which compresses by itself
        path = path.with_name(f"{path.name}.gz")
        path.write_bytes(gzip.compress((tmp_path / f"rows{suffix}").read_bytes()))
    rows = load_rows(str(path))
    assert rows.to_list() == ROWS
    assert fingerprint(rows) == fingerprint(_table(*ROWS))


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    _table(*ROWS).save_to_disk(tmp_path / "one")
    assert load_rows(str(tmp_path / "one")).to_list() == ROWS
    for kind, shown in (("pandas", None), (None, ["prompt"])):
        _table(*ROWS).with_format(kind, columns=shown).save_to_disk(tmp_path / f"as {kind}")
        assert list(load_rows(str(tmp_path / f"as {kind}"))) == ROWS
    datasets.DatasetDict({"train": _table(ROWS[0]), "test": _table(ROWS[1])}).save_to_disk(tmp_path / "splits")
    assert load_rows(str(tmp_path / "splits"), "test").to_list() == ROWS[1:]
    with pytest.raises(ValueError, match="no split 'dev'; it has train, test"):
        load_rows(str(tmp_path / "splits"), "dev")


def test_a_folder_of_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text('text\n"a\nb"\n')
    with pytest.raises(ValueError, match=r"folder of tables.*name one, .*train\.tsv"):
        load_rows(str(tmp_path))


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for text in ("first", "later"):
        path.write_text(json.dumps({"text": text}))
        assert load_rows(str(path))["text"] == [text]


def test_a_text_file_has_a_row_for_each_line_or_is_one(tmp_path: Path) -> None:
    text = " = Heading = \n\nTwo lines of\r\ntext.\n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert load_rows(str(tmp_path / "a.txt"))["text"] == [" = Heading = ", "Two lines of", "text."]
    assert load_rows(str(tmp_path / "a.txt"), sample_by="document").to_list() == [{"text": text}]
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="could not be read as TXT"):
        load_rows(str(tmp_path / "b.txt"))


def test_rows_under_a_key_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"data": ROWS}))
    assert load_rows(f"{tmp_path / 'a.json'}:data").to_list() == ROWS
    with pytest.raises(ValueError, match=r"a\.json could not be read as JSON: .* behind a colon, :data"):
        load_rows(str(tmp_path / "a.json"))


def test_csv_with_a_byte_order_mark_a_blank_line_and_a_long_cell(tmp_path: Path) -> None:
    long = "x" * 200_000
    (tmp_path / "a.csv").write_text(f"prompt,completion\na,b\n\nc,{long}\n", encoding="utf-8-sig")
    assert load_rows(str(tmp_path / "a.csv")).to_list()[1] == {"prompt": "c", "completion": long}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.json", "[]", "holds no rows"),
        ("a.csv", "prompt,completion\n", "holds no rows"),
        ("a.json", "not json", "could not be read as JSON"),
        ("a.csv", "a,b\n1,2\n3,4,5\n", "could not be read as CSV: line 3 has 3 cells under 2 column names"),
        ("a.tsv", "a\tb\n1\n", "could not be read as TSV: line 2 has 1 cells under 2 column names"),
        ("a.parquet", "PAR", "could not be read as PARQUET"),
        ("a.txt", "", "is empty"),
        ("a.doc", "text", "suffix that is not known"),
    ],
)
def test_unusable_files(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_rows(str(tmp_path / name))


def test_absent_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="There is no data file"):
        load_rows(str(tmp_path / "a.jsonl"))

    def fail(*args: Any, **options: Any) -> None:
        raise ConnectionError("unreachable")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(FileNotFoundError, match="no file nobody/nothing, and split 'test' of a Hugging Face data set"):
        load_rows("nobody/nothing", split="test")


def test_hub_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, configuration: str | None, split: str) -> datasets.Dataset:
        return _table({"text": f"{name} {configuration} {split}"})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_rows("some/data-v1.5", split="test")["text"] == ["some/data-v1.5 None test"]
    assert load_rows("openai/gsm8k:main")["text"] == ["openai/gsm8k main train"]


def test_fingerprint_is_of_content_and_order() -> None:
    first = fingerprint(_table(*ROWS))
    assert len(first) == 64
    assert fingerprint(_table(*[dict(reversed(row.items())) for row in ROWS])) == first
    assert fingerprint(_table(*ROWS, ROWS[0]).select([0, 1])) == first
    assert fingerprint(_table(*ROWS[::-1])) != first
    assert fingerprint(_table(ROWS[0])) != first


def test_fingerprint_of_objects_is_the_same_in_every_format(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"name": "f"}]}]}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    _table(*rows).to_parquet(tmp_path / "a.parquet")
    assert fingerprint(load_rows(str(tmp_path / "a.json"))) == fingerprint(load_rows(str(tmp_path / "a.parquet")))

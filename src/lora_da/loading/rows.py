"""Rows of a data set, from a file, a folder or the hub."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import datasets

from lora_da.system.hashing import hash_lines

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")


def load_rows(source: str, split: str = "train") -> datasets.Dataset:
    """Read a data set from a local file or folder, or from the hub.

    Cells of CSV and TSV files are kept as text: "007" stays "007", and "NA" does not become a missing value.

    Args:
        source: A JSON Lines, JSON (a list of records), CSV, TSV or Parquet file, told by its suffix, or a ``.txt``
            file, which is one row with the column ``text``, all but Parquet perhaps compressed (``.gz``); a folder that
            ``save_to_disk`` of the library datasets wrote; anything else is the id of a Hugging Face data set, where
            needed with the name of its configuration behind a colon (``openai/gsm8k:main``).
        split: Split of a hub data set, or of a folder that has splits. A file is one split, so this has no say there.

    Raises:
        FileNotFoundError: If a name with one of these suffixes is no file, or the hub cannot give the data set.
        ValueError: If the suffix of a file is unknown, the file cannot be read, or there are no rows.
    """
    path = Path(source)
    if _suffix(path) in _SUFFIXES:
        rows = _read_file(path)
    elif path.is_file():
        raise ValueError(f"{source} has a suffix that is not known; it must be one of {', '.join(_SUFFIXES)}.")
    elif (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        rows = _read_folder(path, split)
    else:
        rows = _read_hub(source, split)
    if len(rows) == 0:
        raise ValueError(f"{source} holds no rows; give a data set with at least one example.")
    return rows


def _suffix(path: Path) -> str:
    """The suffix that tells the format, below that of a compressed file."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _open(path: Path) -> Any:
    options: Any = {"mode": "rt", "encoding": "utf-8-sig", "newline": ""}
    return gzip.open(path, **options) if path.suffix.lower() == ".gz" else path.open(**options)


def _read_hub(source: str, split: str) -> datasets.Dataset:
    name, _, configuration = source.partition(":")
    try:
        return datasets.load_dataset(name, configuration or None, split=split)
    except Exception as error:  # the hub client's errors share no base class
        raise FileNotFoundError(
            f"There is no file {source}, and split {split!r} of a Hugging Face data set of this name could not be "
            f"loaded ({error}). Check the path, or the data set's name, its split and the connection."
        ) from error


def _read_folder(path: Path, split: str) -> datasets.Dataset:
    found = datasets.load_from_disk(str(path))
    if isinstance(found, datasets.Dataset):
        return found
    if split not in found:
        raise ValueError(f"{path} has no split {split!r}; it has {', '.join(found)}.")
    return found[split]


def _read_file(path: Path) -> datasets.Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"There is no data file {path}; check the path.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; give a data set with at least one example.")
    suffix = _suffix(path)
    try:
        if suffix in _SEPARATORS:
            return _read_table(path, _SEPARATORS[suffix])
        if suffix == ".txt":
            with _open(path) as stream:
                return datasets.Dataset.from_dict({"text": [stream.read()]})
        # A cache of our own that goes away at once: the shared one would fill with copies of local files.
        with tempfile.TemporaryDirectory() as cache:
            options: dict[str, Any] = {"cache_dir": cache, "keep_in_memory": True}
            if suffix == ".parquet":
                return datasets.Dataset.from_parquet(str(path), **options)
            return datasets.Dataset.from_json(str(path), **options)
    except Exception as error:  # csv, pyarrow and datasets each raise their own, StopIteration among them
        if "corresponds to no data" in str(error):  # how datasets reports a file of zero records
            raise ValueError(f"{path} holds no rows; give a data set with at least one example.") from error
        raise ValueError(f"{path} could not be read as {suffix[1:].upper()}: {error.__cause__ or error}") from error


def _read_table(path: Path, separator: str) -> datasets.Dataset:
    """A CSV or TSV file, all cells text; pandas would guess types and let cells of uneven rows slip sideways."""
    csv.field_size_limit(2**31 - 1)  # long texts are nothing unusual here
    with _open(path) as stream:
        reader = csv.reader(stream, delimiter=separator)
        names = next(reader)
        columns: dict[str, list[str]] = {name: [] for name in names}
        for cells in reader:
            if not cells:  # a blank line
                continue
            if len(cells) != len(columns):
                raise ValueError(f"line {reader.line_num} has {len(cells)} cells under {len(columns)} column names")
            for name, cell in zip(names, cells, strict=True):
                columns[name].append(cell)
    return datasets.Dataset.from_dict(columns)


def fingerprint(rows: datasets.Dataset) -> str:
    """SHA-256 of the rows' content and order, as hex digits, whichever file or cache they came from."""
    return hash_lines(
        json.dumps(row, sort_keys=True, separators=(",", ":"), default=str) for row in rows.with_format(None)
    )

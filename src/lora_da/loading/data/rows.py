"""Rows of a data set, from a file, a folder or the hub."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any, Literal

import datasets

from lora_da.loading.data.data_names import check_data, data_suffix, find_file, is_saved_folder
from lora_da.loading.data.json_text import read_json
from lora_da.loading.data.limits import TEXT_BYTES, check_values
from lora_da.loading.data.parquet import read_parquet
from lora_da.loading.data.table_text import read_table
from lora_da.system.hashing import hash_lines
from lora_da.system.json_file import read_object
from lora_da.system.sizes import format_size

_ANEW = "save it anew"

SampleBy = Literal["line", "document"]
"""What is one row of a text file."""


def load_rows(source: str, split: str = "train", *, sample_by: SampleBy = "line") -> datasets.Dataset:
    """Read a data set from a local file or folder, or from the hub.

    Args:
        source: See :func:`load_local`; anything else is the id of a Hugging Face data set, where needed with the name
            of its configuration behind a colon (``openai/gsm8k:main``).
        split: Split of a hub data set, or of a folder that has splits. A file is one split, so this has no say there.
        sample_by: Whether a text file has a row for each line that is not blank, or is one row.

    Raises:
        FileNotFoundError: If a name with a known suffix is no file, or the hub cannot give the data set.
        ValueError: If the suffix of a file is unknown, the file cannot be read, or there are no rows.
    """
    rows = load_local(source, sample_by=sample_by)
    if rows is None:
        rows = _read_hub(source, split)
    elif isinstance(rows, datasets.DatasetDict):
        if split not in rows:
            raise ValueError(f"{source} has no split {split!r}; it has {', '.join(rows)}.")
        rows = rows[split]
    if len(rows) == 0:
        raise ValueError(f"{source} holds no rows; give a data set with at least one example.")
    return rows


def load_local(source: str, *, sample_by: SampleBy = "line") -> datasets.Dataset | datasets.DatasetDict | None:
    """Read a local file, or a folder that ``save_to_disk`` of the library datasets wrote.

    Args:
        source: A JSON Lines, JSON (a list of records; of an object that has the list under a key, with that key behind
            a colon), CSV, TSV, Parquet or text file, told by its suffix, all but Parquet perhaps compressed (``.gz``);
            or the folder.
        sample_by: See :func:`load_rows`.

    Returns:
        The rows, or the folder's splits; None if the name is of no file and no such folder.

    Raises:
        FileNotFoundError: If a name with one of these suffixes is no file.
        ValueError: If the suffix of a file is unknown, it cannot be read, or it is a folder of tables.
    """
    check_data(source)
    path, (name, _, key) = find_file(source), source.rpartition(":")
    if is_saved_folder(path):
        return _read_folder(path)
    return _read_file(path, key if name and path == Path(name) else None, sample_by) if path.is_file() else None


def _read_folder(path: Path) -> datasets.Dataset | datasets.DatasetDict:
    """A folder of ``save_to_disk``, with all that it names inside it."""
    try:
        parts = [path]
        if (path / "dataset_dict.json").is_file():
            parts = [path / name for name in read_object(path / "dataset_dict.json", _ANEW)["splits"]]
        named = [
            part / file["filename"] for part in parts for file in read_object(part / "state.json", _ANEW)["_data_files"]
        ]
        for name in named:
            if path.resolve() not in name.resolve().parents:
                raise ValueError(f"it names {name}, which lies outside; {_ANEW}")
        rows = datasets.load_from_disk(str(path)).with_format(None)  # a format may hide columns
        for split in rows.values() if isinstance(rows, datasets.DatasetDict) else (rows,):
            split.data.table.validate(full=True)  # texts that are no UTF-8 would be found when they are used
        return rows
    except Exception as error:  # of datasets and pyarrow, which raise their own
        raise ValueError(f"{path} could not be read as a folder of save_to_disk: {error}") from error


def _read_hub(source: str, split: str) -> datasets.Dataset:
    name, _, configuration = source.partition(":")
    try:
        return datasets.load_dataset(name, configuration or None, split=split)
    except Exception as error:  # the hub client's errors share no base class
        raise FileNotFoundError(
            f"There is no file {source}, and split {split!r} of a Hugging Face data set of this name could not be "
            f"loaded ({error}). Check the path, or the data set's name, its split and the connection."
        ) from error


def _read_file(path: Path, key: str | None, sample_by: SampleBy) -> datasets.Dataset:
    suffix = data_suffix(path)
    try:
        if suffix == ".parquet":
            return read_parquet(path)
        text = _read_text(path)
        if suffix in (".csv", ".tsv"):
            return read_table(text, suffix)
        if suffix == ".txt":
            check_values(text, "\r\n")
            lines = re.split(r"\r\n?|\n", text) if sample_by == "line" else [text]
            return datasets.Dataset.from_dict({"text": [line for line in lines if line.strip()]})
        return read_json(text, key)
    except Exception as error:  # json, pyarrow and datasets each raise their own
        raise ValueError(f"{path} could not be read as {suffix[1:].upper()}: {str(error)[:1000]}") from error


def _read_text(path: Path) -> str:
    """The text of a file, no more of which is read or decompressed than may be kept."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        content = stream.read(TEXT_BYTES + 1) if path.stat().st_size <= TEXT_BYTES else None
    if content is None or len(content) > TEXT_BYTES:
        raise ValueError(f"it has more than {format_size(TEXT_BYTES)} of text: split it, or make it Parquet")
    return content.decode("utf-8-sig")


def fingerprint(rows: datasets.Dataset) -> str:
    """SHA-256 of the rows' content and order, as hex digits, whichever file or cache they came from.

    A missing key of an object and one without a value are the same, since some formats can't tell them apart.
    """
    return hash_lines(
        json.dumps(_without_nulls(row), sort_keys=True, separators=(",", ":"), default=str)
        for row in rows.with_format(None)
    )


def _without_nulls(value: Any, depth: int = 0) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(part, depth + 1) for key, part in value.items() if depth == 0 or part is not None}
    return [_without_nulls(part, depth + 1) for part in value] if isinstance(value, list) else value

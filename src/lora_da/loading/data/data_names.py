"""The names of data: which are files, folders or data sets of the hub, and which can be none of these; in no time."""

from __future__ import annotations

import re
from pathlib import Path

_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:.*)?")


def find_file(source: str) -> Path:
    """The path that the name of data on this machine has in it: all of it, or what is before the key of a JSON file."""
    name = source.rpartition(":")[0]
    return Path(name if data_suffix(Path(name)) == ".json" and not Path(source).exists() else source)


def data_suffix(path: Path) -> str:
    """The suffix that tells the format, below that of a compressed file."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def is_saved_folder(path: Path) -> bool:
    """Whether it is a folder that ``save_to_disk`` of the library datasets wrote."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def check_data(source: str) -> None:
    """Refuse the name of data that can't be read, before anything is; the id of a hub data set passes.

    Raises:
        FileNotFoundError: A name with a known suffix is no file, or it is a path and there is nothing.
        ValueError: The suffix of a file is unknown, it is empty, or it is a folder of tables.
    """
    path = find_file(source)
    if path.is_file():
        if data_suffix(path) not in _SUFFIXES:
            raise ValueError(f"{source} has a suffix that is not known; it must be one of {', '.join(_SUFFIXES)}.")
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty; give a data set with at least one example.")
    elif path.is_dir():
        tables = sorted(file for file in path.rglob("*") if data_suffix(file) in (".csv", ".tsv"))
        if tables and not is_saved_folder(path):  # of which datasets would take quotes and "NA" for something else
            raise ValueError(f"{source} is a folder of tables, read one at a time; name one, such as {tables[0]}.")
    elif data_suffix(path) in _SUFFIXES:
        raise FileNotFoundError(f"There is no data file {path}; check the path.")
    elif source.startswith(".") or not _HUB_ID.fullmatch(source):
        raise FileNotFoundError(f"There are no data {source}; check the path.")

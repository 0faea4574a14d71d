"""Parquet files as rows: the file that is named and no other, within bounds of what it may claim."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lora_da.loading.data.limits import ROWS, check_columns, check_memory

_ROWS_AT_ONCE = 1_000


def read_parquet(path: Path) -> datasets.Dataset:
    """Read a Parquet file; datasets itself would take its name for a pattern, and read what matches.

    Raises:
        ValueError: It has more rows or columns than the bounds, its parts don't agree, or it does not fit into memory.
    """
    with path.open("rb") as stream, pq.ParquetFile(stream) as file:
        about = file.metadata
        groups = [about.row_group(index) for index in range(about.num_row_groups)]
        rows = sum(group.num_rows for group in groups)
        if rows != about.num_rows:
            raise ValueError(f"it claims {about.num_rows:,} rows and has {rows:,}: it is damaged")
        if rows > ROWS:
            raise ValueError(f"it claims {rows:,} rows, more than {ROWS:,}: split the file")
        check_columns(file.schema_arrow.names)
        leaves = [file.schema.column(index) for index in range(about.num_columns)]
        width = sum(max(8, leaf.length) for leaf in leaves)  # the length is that of values that are all as long
        check_memory(rows * width + sum(group.total_byte_size for group in groups), f"its {rows:,} rows")
        _check_texts(path, [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"])
        table = pa.Table.from_batches(file.iter_batches(_ROWS_AT_ONCE), file.schema_arrow)
        table.validate(full=True)  # texts that are no UTF-8 would be found when they are used
    return datasets.Dataset(datasets.table.InMemoryTable(table))


def _check_texts(path: Path, columns: Sequence[str]) -> None:
    """Refuse texts that don't fit into memory: one in the file's dictionaries may stand for any number of rows.

    The rows are read once with texts as places in dictionaries, which takes little memory whatever they stand for.
    """
    with path.open("rb") as stream, pq.ParquetFile(stream, read_dictionary=columns) as file:
        rows, size = 0, 0
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            rows, size = rows + len(batch), size + sum(map(_count_bytes, batch.columns))
            check_memory(size, f"its first {rows:,} rows")


def _count_bytes(array: Any) -> int:
    """Bytes of an Arrow array once its dictionaries are written out."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return 4 * len(array) + int(pc.sum(lengths).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(map(_count_bytes, array.flatten()))
    if pa.types.is_map(kind):
        return _count_bytes(array.keys) + _count_bytes(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _count_bytes(array.flatten())
    return int(array.nbytes)

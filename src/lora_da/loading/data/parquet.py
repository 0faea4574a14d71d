"""Parquet files as rows: the file that is named and no other, within bounds of what it may claim."""

from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from lora_da.loading.data.limits import ROWS, check_columns, check_memory

_ROWS_AT_ONCE = 1_000  # few, since a dictionary of one long text may stand for any number of rows


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
        check_memory(
            8 * rows * about.num_columns + sum(group.total_byte_size for group in groups), f"its {rows:,} rows"
        )
        batches, size = [], 0
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            batches.append(batch)
            size += batch.nbytes
            check_memory(size, f"its first {_ROWS_AT_ONCE * len(batches):,} rows")
        table = pa.Table.from_batches(batches, file.schema_arrow)
        table.validate(full=True)  # texts that are no UTF-8 would be found when they are used
    return datasets.Dataset(datasets.table.InMemoryTable(table))

from __future__ import annotations

import datasets
import pytest

from lora_da_bench.tasks.task import read_cells, read_texts

ROWS = datasets.Dataset.from_dict({"a": ["x", " "], "b": [1, None]})


def test_cells_and_texts() -> None:
    assert read_cells(ROWS, "b") == [1, None]
    assert read_texts(ROWS.select([0]), "a") == ["x"]
    with pytest.raises(ValueError, match="There is no column 'c'; the columns are: a, b"):
        read_cells(ROWS, "c")
    with pytest.raises(ValueError, match="Row 1 has no text in the column 'a'"):
        read_texts(ROWS, "a")
    with pytest.raises(ValueError, match="Row 0 has no text in the column 'b'"):
        read_texts(ROWS, "b")

"""Bounds of data files, at the bound and beyond it."""

from __future__ import annotations

from typing import Any

import pytest

from lora_da.loading.data import limits
from lora_da.loading.data.limits import check_columns, check_memory, check_values, is_too_deep


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of memory that seem to be free."""
    monkeypatch.setattr(limits, "free_bytes", lambda _: 4096)
    return 4096


def test_half_of_the_free_memory(free: int) -> None:
    check_memory(free // 2, "its rows")
    with pytest.raises(ValueError, match=r"^its rows take about 2.* of memory, of which 4.* is free: split the file$"):
        check_memory(free // 2 + 1, "its rows")


def test_values_are_counted_by_all_their_marks(free: int) -> None:
    check_values("[1,2,3]" + "," * 10, ",:")
    with pytest.raises(ValueError, match="its 21 values"):
        check_values("," * 11 + ":" * 10, ",:")
    check_values("," * 11 + ":" * 10, ",")


def test_columns() -> None:
    check_columns(range(limits.COLUMNS))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="more than 1,000 columns"):
        check_columns(range(limits.COLUMNS + 1))  # type: ignore[arg-type]


def _nested(depth: int, kind: str) -> Any:
    value: Any = "text"
    for level in range(depth):
        value = [value, 1] if kind == "list" or (kind == "both" and level % 2) else {"a": value, "b": None}
    return value


@pytest.mark.parametrize("kind", ["list", "object", "both"])
def test_depth(kind: str) -> None:
    assert not is_too_deep(_nested(0, kind))
    assert not is_too_deep(_nested(limits.DEPTH, kind))
    assert is_too_deep(_nested(limits.DEPTH + 1, kind))
    assert is_too_deep(["shallow", [1], _nested(limits.DEPTH, kind)])
    assert is_too_deep(_nested(100_000, kind))  # which a walk by recursion would not survive

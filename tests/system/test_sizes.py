from __future__ import annotations

import pytest

from lora_da.system.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 * 2**30), ("1.5 MiB", 3 * 2**19), ("500MB", 500 * 10**6), ("2gb", 2 * 10**9), (4096, 4096), ("7", 7)],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", 0, "GiB", "1PB"])
def test_what_is_no_size(text: int | str) -> None:
    with pytest.raises(ValueError, match='"auto", a number of bytes or a size such as "24GiB"'):
        parse_size(text)


def test_sizes_in_words() -> None:
    assert [format_size(size) for size in (3 * 2**29, 3 * 2**19, 1536)] == ["1.50 GiB", "1.5 MiB", "1.5 KiB"]

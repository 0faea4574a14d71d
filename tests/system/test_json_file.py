from __future__ import annotations

from pathlib import Path

import pytest

from lora_da.system.json_file import read_object


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"line 1, column 1: Expecting value"),
        (b'{"a": 1,\n "b"', r"line 2, column 5"),
        (b'{"a": \xff}', "byte 6 is not UTF-8"),
        (b"[1]", "a list in the place of an object"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b"[" * 100_000, "thousands of lists"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "4300 digits"),
    ],
)
def test_damage_is_named_with_its_file_and_place_and_a_remedy(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json is damaged: .*{message}.*; do this"):
        read_object(tmp_path / "a.json", "do this")


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": Infinity}')
    assert read_object(tmp_path / "a.json", "", strict=False) == {"a": float("inf")}

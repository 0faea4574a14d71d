"""The head of a GGUF file, checked before anything is made of it: all that it claims must fit into the file.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

from lora_da.loading.config_check import LAYERS

_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_ENTRIES = 2**16  # most settings, and most tensors
_DIMENSIONS = 4
_NUMBERS: dict[int, str] = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), [*"BbHh", *"Ii", *"f?Qqd"], strict=True))
_TEXT, _ARRAY = 8, 9


def check_gguf_file(file: Path) -> None:
    """Refuse a file that is not there, or that is a part of a model.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a part of a model, damaged, or claims more than it holds.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no GGUF file {file}; check the path.")
    if _PART.search(file.name):
        raise ValueError(
            f"{file} is one part of a split model, and transformers reads whole files only; put the parts together "
            "first: llama-gguf-split --merge FIRST-PART WHOLE.gguf"
        )
    check_head(file)


def check_head(file: Path) -> None:
    """Refuse a GGUF file that is damaged, or claims more than it can hold.

    Raises:
        ValueError: The message says what.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            _Head(stream, size).check()
    except (ValueError, struct.error) as error:
        raise ValueError(f"{file} is no GGUF file, or damaged: {error}; fetch or convert it anew") from error


class _Head:
    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size

    def check(self) -> None:
        if self._stream.read(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise ValueError(f"its version is {version}, and 2 and 3 are read")
        tensors, settings = self._count("tensors"), self._count("settings")
        for _ in range(settings):
            name, value = self._text(), self._value(self._number("I"))
            if name.endswith((".block_count", ".expert_count")) and isinstance(value, int) and value > LAYERS:
                raise ValueError(f"{name} is {value:,}, and more than {LAYERS:,} are not read")
        for _ in range(tensors):
            name, dimensions = self._text(), self._number("I")
            if dimensions > _DIMENSIONS:
                raise ValueError(f"{name} has {dimensions} dimensions")
            entries = math.prod(self._number("Q") for _ in range(dimensions))
            self._number("I")
            if entries > 8 * self._size or self._number("Q") > self._size:  # an entry takes a bit at least
                raise ValueError(f"{name} has {entries:,} entries, more than the file holds")

    def _count(self, what: str) -> int:
        count = int(self._number("Q"))
        if count > _ENTRIES:
            raise ValueError(f"it claims {count:,} {what}")
        return count

    def _number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self._stream.read(struct.calcsize(kind)))[0]

    def _length(self, each: int = 1) -> int:
        """How many bytes or entries follow, which the rest of the file must hold."""
        length = int(self._number("Q"))
        if length * each > self._size - self._stream.tell():
            raise ValueError(f"it claims {length:,} entries at byte {self._stream.tell():,}, and ends before")
        return length

    def _text(self) -> str:
        return self._stream.read(self._length()).decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            self._stream.seek(self._length(), 1)
            return None
        if kind != _ARRAY:
            return self._number(_known(kind))
        kind = self._number("I")
        if kind == _TEXT:
            for _ in range(self._length(8)):
                self._stream.seek(self._length(), 1)
        else:
            each = struct.calcsize(_known(kind))
            self._stream.seek(self._length(each) * each, 1)
        return None


def _known(kind: int) -> str:
    if kind not in _NUMBERS:
        raise ValueError(f"it has a value of the unknown type {kind}")
    return _NUMBERS[kind]

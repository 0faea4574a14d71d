"""Texts far longer than examples may be lose their end before they are tokenised, which takes 300 times their size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SHORT = 100_000  # characters: shorter texts stay as they are
_TOKEN_CHARACTERS = 64  # of a token, at first
_MARGIN = 64  # tokens before a cut, which it may have changed


@dataclass(frozen=True)
class TextCut:
    """Cuts what lies behind the tokens that are kept, so that these stay the same.

    Attributes:
        tokenizer: The model's.
        max_length: Tokens of an example that are kept, from its start.
    """

    tokenizer: Any
    max_length: int

    def may_cut(self, value: Any) -> bool:
        """Whether it is a text that is long enough to be cut."""
        return isinstance(value, str) and len(value) > max(_SHORT, _TOKEN_CHARACTERS * self.max_length)

    def cut_text(self, text: str) -> str:
        """A beginning of a text that has more tokens than are kept, or all of it."""
        end = max(_SHORT, _TOKEN_CHARACTERS * self.max_length)
        while end < len(text):
            tokens = self.tokenizer(text[:end], add_special_tokens=False, verbose=False)["input_ids"]
            if len(tokens) >= self.max_length + _MARGIN:
                return text[:end]
            end *= 2
        return text

    def cut_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row with its texts cut."""
        return {name: self.cut_text(value) if isinstance(value, str) else value for name, value in row.items()}

    def cut_message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message with its content, text or parts that are text, cut."""
        content = message.get("content")
        if isinstance(content, str):
            return message | {"content": self.cut_text(content)}
        if isinstance(content, list):
            return message | {"content": [self.cut_row(part) for part in content]}
        return message

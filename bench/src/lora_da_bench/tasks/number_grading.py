"""Whether the number that a model writes after ``####`` is the reference's.

Both give their answer as one number at the start of what follows ``####``: in the prediction after the first such mark,
as models ramble on, in the reference after the last. A currency sign before it and a unit after it do not count, a
percent sign included. Anything less plain ("12 or 13", "12 * 2", "12 thousand") is no answer.
"""

from __future__ import annotations

import logging
import re

from math_verify import ExprExtractionConfig, parse, verify

_MARK = "####"
# One number at the very start of an answer: grouped, decimal, or a fraction; a currency or emphasis may precede it.
_NUMBER = re.compile(
    r"[\s*_$€£¥]*+(?P<sign>[-+\u2212]?)[\s$€£¥]*(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
    r"(?P<fraction>\s*/\s*0*[1-9]\d*)?"
)
_DIGITS = 100  # of a number: comparing two takes the square of their lengths
# What may follow it: words and punctuation, but no second number, no arithmetic and no word that scales the first.
_SCALES = r"hundred|thousand|million|billion|trillion|dozen|half|third|quarter|lakh|crore|(?:[kKMB]|bn|mln)\b"
_UNIT = re.compile(
    rf"(?!.*\d)(?!.*\bor\b)(?!\s*[-+/^=])(?!\s*[*×÷]\s*\w)(?!,\S)(?!.*\b(?:{_SCALES}))(?!(?:{_SCALES})).*", re.DOTALL
)


def read_prediction(prediction: str) -> str | None:
    """Read the number after the first ``####`` of a prediction; ``None`` if there is none."""
    _, mark, rest = prediction.partition(_MARK)
    return _plain_number(rest) if mark else None


def read_reference(reference: str) -> str:
    """Read the number after the last ``####`` of a reference.

    Raises:
        ValueError: There is none, so that nothing could ever match it.
    """
    _, mark, rest = reference.rpartition(_MARK)
    expected = _plain_number(rest) if mark else None
    if expected is None:
        raise ValueError(f"The reference has no number after {_MARK} to compare with: {reference[-200:]!r}.")
    return expected


def _plain_number(answer: str) -> str | None:
    """The one number of an answer's first line without grouping, currency and unit, or ``None``."""
    line = answer.split("\n", 1)[0].strip()
    match = _NUMBER.match(line)
    if match is None or len(match["number"]) > _DIGITS or _UNIT.fullmatch(line[match.end() :]) is None:
        return None
    sign = "" if match["sign"] in ("", "+") else "-"
    return sign + match["number"].replace(",", "") + re.sub(r"\s", "", match["fraction"] or "")


def match_numbers(found: str | None, expected: str) -> bool:
    """Say whether two numbers are equal, decimals to six places; none is equal to nothing."""
    # Its time limits use signals, which work in the main thread only. Single numbers need none, nor the warning that
    # there is none.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    numbers = [parse(text, [ExprExtractionConfig()], parsing_timeout=None)[:1] for text in (found or "", expected)]
    return found is not None and all(numbers) and bool(verify(numbers[1], numbers[0], timeout_seconds=None))

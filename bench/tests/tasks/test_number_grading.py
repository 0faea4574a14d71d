"""Grading of answers meant to fool it."""

from __future__ import annotations

import threading

import pytest

from lora_da_bench.tasks.number_grading import match_numbers, read_prediction, read_reference


def matches(prediction: str, reference: str) -> bool:
    return match_numbers(read_prediction(prediction), read_reference(reference))


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("#### 5", "5 pens\n#### 5"),
        ("####5", "#### 5"),
        ("#### 1,234,567", "#### 1234567"),
        ("#### 1234567", "#### 1,234,567"),
        ("#### $12", "#### 12"),
        ("#### -$12", "#### -12"),
        ("#### 12 dollars", "#### 12"),
        ("#### 12.", "#### 12"),
        ("#### **12**", "#### 12"),
        ("#### 12.00", "#### 12"),
        ("#### 1/2", "#### 0.5"),
        ("#### 0.5", "#### 1/2"),
        ("#### 012", "#### 12"),
        ("#### 75%", "#### 75"),
        ("#### 12\n\nQuestion: more?\nAnswer: ...\n#### 99", "#### 12"),
    ],
)
def test_right_answers(prediction: str, reference: str) -> None:
    assert matches(prediction, reference)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("#### 5", "#### 500"),
        ("#### 500", "#### 5"),
        ("#### 1", "#### 1,234,567"),
        ("#### 1,234", "#### 1,234,567"),
        ("#### 567", "#### 1,234,567"),
        ("#### 1,23", "#### 123"),
        ("#### 5", "#### -5"),
        ("#### -5", "#### 5"),
        ("#### 5", "#### 0.5"),
        ("#### .5", "#### 5"),
        ("#### 1", "#### 1/2"),
        ("#### 2", "#### 1/2"),
        ("#### 5 or 500", "#### 500"),
        ("#### 5 or 500", "#### 5"),
        ("#### 12 * 2 = 24", "#### 24"),
        ("#### 12 * 2 = 24", "#### 12"),
        ("#### 12 thousand", "#### 12"),
        ("#### 12bn", "#### 12"),
        ("#### 12 mln", "#### 12"),
        ("#### 12 lakh", "#### 12"),
        ("#### 12 or thirteen", "#### 12"),
        ("#### 12k", "#### 12"),
        ("#### 12 and a half", "#### 12"),
        ("#### 1e3", "#### 1"),
        ("#### 5/0", "#### 5"),
        ("#### twelve", "#### 12"),
        ("#### ", "#### 12"),
        ("####\n12", "#### 12"),
        ("12", "#### 12"),
        ("The answer is 12.", "#### 12"),
        ("", "#### 12"),
        ("#### 99\n#### 12", "#### 12"),
        ("#### 1234567890123456788", "#### 1234567890123456789"),
        ("#### 9**9**9**9", "#### 9"),
        ("#### " + "9" * 5000, "#### 9"),
    ],
)
def test_wrong_answers(prediction: str, reference: str) -> None:
    assert not matches(prediction, reference)


def test_the_numbers_that_are_compared() -> None:
    assert read_prediction("#### $1,234 pens\n#### 7") == "1234"
    assert read_prediction("1234") is None
    assert read_reference("#### 7\n#### -1,234") == "-1234"
    with pytest.raises(ValueError, match="no number after ####"):
        read_reference("1234")


def test_grading_works_in_any_thread() -> None:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(matches("#### 1/2", "#### 0.5")))
    thread.start()
    thread.join()
    assert results == [True]

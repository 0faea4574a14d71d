"""Generated arithmetic: right answers, no repetition, and nothing shared between the splits."""

from __future__ import annotations

import itertools
import re

import pytest

from lora_da.workflows.demo.arithmetic import _NAMES, _THINGS, make_problems

_OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


def _template(prompt: str) -> str:
    """The prompt with its numbers, names and objects masked."""
    masked = re.sub(r"\d+", "#", prompt)
    masked = re.sub(rf"\b({'|'.join(_NAMES)})\b", "NAME", masked)
    return re.sub(rf"\b({'|'.join(_THINGS)})\b", "THINGS", masked)


def test_same_seed_same_problems() -> None:
    assert make_problems(60, 20, seed=3) == make_problems(60, 20, seed=3)
    assert make_problems(60, 20, seed=3) != make_problems(60, 20, seed=4)
    assert make_problems(10, 20, seed=3)[1] == make_problems(60, 20, seed=3)[1]


def test_every_calculation_and_answer_is_right() -> None:
    for row in itertools.chain(*make_problems()):
        *working, last = row["completion"].split("\n")
        assert 1 <= len(working) <= 3
        assert row["completion"].startswith(" ")
        known = {int(number) for number in re.findall(r"\d+", row["prompt"])}
        for line in working:
            ((a, operation, b, c),) = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", line)
            assert {int(a), int(b)} <= known, "a step uses numbers from nowhere"
            assert _OPERATIONS[operation](int(a), int(b)) == int(c)
            known.add(int(c))
        assert last == f"#### {c}"


def test_prompts_have_the_form_and_occur_once() -> None:
    train, held_out = make_problems()
    assert (len(train), len(held_out)) == (3000, 300)
    prompts = [row["prompt"] for row in train + held_out]
    assert len(set(prompts)) == len(prompts)
    assert all(re.fullmatch(r"Question: [^\n{}]+\?\nAnswer:", prompt) for prompt in prompts)


def test_no_template_is_shared() -> None:
    train, held_out = ({_template(row["prompt"]) for row in rows} for rows in make_problems())
    assert len(train) >= 6
    assert len(held_out) >= 3
    assert not train & held_out


def test_small_sets_use_every_template() -> None:
    train, held_out = make_problems(6, 3)
    assert len({_template(row["prompt"]) for row in train}) == 6
    assert len({_template(row["prompt"]) for row in held_out}) == 3


def test_more_than_can_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_problems(0, 0) == ([], [])
    monkeypatch.setattr("lora_da.workflows.demo.arithmetic._TRAIN", ("{name} has {a} {things}?\n{a} = {a}.",))
    with pytest.raises(ValueError, match="told apart"):
        make_problems(10_000, 0)

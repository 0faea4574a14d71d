"""Worded arithmetic problems with worked solutions, drawn from a seed: a task that needs no download."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

__all__ = ["make_problems"]

# fmt: off
_NAMES = (
    "Ada", "Ben", "Clara", "David", "Elena", "Farid", "Grace", "Hugo", "Irene", "Jonas", "Kemal", "Lena", "Maria",
    "Noah", "Olga", "Pedro", "Quinn", "Rosa", "Samir", "Tara", "Uma", "Victor", "Wanda", "Xavier", "Yusuf", "Zoe",
    "Amir", "Bella", "Chen", "Dora", "Emil", "Fatima",
)
_THINGS = (
    "pens", "apples", "books", "stamps", "marbles", "candles", "cookies", "buttons", "cards", "eggs", "flowers",
    "shells", "bottles", "coins", "lemons", "pencils", "plums", "ribbons", "spoons", "stickers", "tickets",
    "tiles", "toys", "onions",
)
# fmt: on

_MAX_DRAWS_PER_ROW = 100


@dataclass(frozen=True)
class _Template:
    """One situation: the numbers that go with it, its question and a line of working for each step."""

    draw: Callable[[Random], dict[str, int]]
    question: str
    steps: tuple[str, ...]


def _multiply_subtract(rng: Random) -> dict[str, int]:
    a, b = rng.randint(3, 20), rng.randint(3, 12)
    x = a * b
    c = rng.randint(2, x - 2)
    return {"a": a, "b": b, "c": c, "x": x, "y": x - c}


def _multiply_add(rng: Random) -> dict[str, int]:
    a, b, c = rng.randint(3, 20), rng.randint(3, 12), rng.randint(2, 90)
    return {"a": a, "b": b, "c": c, "x": a * b, "y": a * b + c}


def _add_subtract(rng: Random) -> dict[str, int]:
    a, b = rng.randint(5, 90), rng.randint(5, 90)
    c = rng.randint(2, a + b - 2)
    return {"a": a, "b": b, "c": c, "x": a + b, "y": a + b - c}


def _divide(rng: Random) -> dict[str, int]:
    b, x = rng.randint(2, 12), rng.randint(3, 30)
    return {"a": b * x, "b": b, "x": x, "y": x}


def _subtract_divide(rng: Random) -> dict[str, int]:
    c, y, b = rng.randint(2, 9), rng.randint(2, 15), rng.randint(2, 40)
    return {"a": c * y + b, "b": b, "c": c, "x": c * y, "y": y}


def _add_add_subtract(rng: Random) -> dict[str, int]:
    a, b, c = (rng.randint(4, 60) for _ in range(3))
    d = rng.randint(2, a + b + c - 2)
    return {"a": a, "b": b, "c": c, "d": d, "w": a + b, "x": a + b + c, "y": a + b + c - d}


_TRAIN = (
    _Template(
        _multiply_subtract,
        "{name} has {a} boxes with {b} {things} in each box and gives away {c}. How many {things} are left?",
        ("{a} boxes of {b} {things} are {a} * {b} = {x} {things}.", "{x} - {c} = {y} {things} remain."),
    ),
    _Template(
        _multiply_subtract,
        "A shop gets {a} crates of {b} {things} and sells {c} of them. How many {things} does the shop still have?",
        ("The crates hold {a} * {b} = {x} {things}.", "After the sale {x} - {c} = {y} {things} are there."),
    ),
    _Template(
        _multiply_subtract,
        "{name} earns {b} dollars an hour, works {a} hours and spends {c} dollars. How many dollars does {name} keep?",
        ("{a} hours bring {a} * {b} = {x} dollars.", "{x} - {c} = {y} dollars are kept."),
    ),
    _Template(
        _multiply_add,
        "{name} owns {c} {things} and buys {a} packs of {b} {things}. How many {things} does {name} own now?",
        ("{a} packs hold {a} * {b} = {x} {things}.", "Together that makes {x} + {c} = {y} {things}."),
    ),
    _Template(
        _multiply_add,
        "A hall has {a} rows of {b} seats and {c} more seats on the balcony. How many seats does the hall have?",
        ("The rows have {a} * {b} = {x} seats.", "With the balcony there are {x} + {c} = {y} seats."),
    ),
    _Template(
        _add_subtract,
        "{name} finds {a} {things} on Monday and {b} on Tuesday, then loses {c}. How many {things} does {name} have?",
        ("{name} finds {a} + {b} = {x} {things}.", "Then {x} - {c} = {y} {things} are left."),
    ),
    _Template(
        _add_subtract,
        "A bus carries {a} people. At a stop {b} people get on and {c} get off. How many people are on the bus?",
        ("With the new people there are {a} + {b} = {x}.", "{x} - {c} = {y} people stay on the bus."),
    ),
    _Template(
        _divide,
        "{name} shares {a} {things} equally among {b} friends. How many {things} does each friend get?",
        ("Each friend gets {a} / {b} = {x} {things}.",),
    ),
    _Template(
        _divide,
        "{name} packs {a} {things} into bags of {b} {things} each. How many bags does {name} fill?",
        ("The {things} fill {a} / {b} = {x} bags.",),
    ),
    _Template(
        _subtract_divide,
        "{name} has {a} {things}, keeps {b} and puts the rest into {c} equal piles. How many {things} are in a pile?",
        ("{a} - {b} = {x} {things} go into piles.", "Each pile has {x} / {c} = {y} {things}."),
    ),
    _Template(
        _subtract_divide,
        "A rope of {a} metres loses {b} metres and is cut into {c} equal parts. How many metres long is a part?",
        ("{a} - {b} = {x} metres of rope are left.", "A part is {x} / {c} = {y} metres long."),
    ),
    _Template(
        _add_add_subtract,
        "{name} picks {a}, {b} and {c} {things} on three days and sells {d}. How many {things} does {name} keep?",
        ("{a} + {b} = {w}.", "{w} + {c} = {x} {things} were picked.", "{x} - {d} = {y} {things} are kept."),
    ),
)
_HELD_OUT = (
    _Template(
        _multiply_subtract,
        "There are {a} shelves holding {b} {things} apiece at the library. {name} borrows {c}. "
        "What number of {things} stays on the shelves?",
        ("The shelves hold {a} * {b} = {x} {things}.", "{x} - {c} = {y} {things} stay."),
    ),
    _Template(
        _multiply_add,
        "Each of {a} children brings {b} {things} to school, and the teacher {name} adds {c}. "
        "What is the total number of {things}?",
        ("The children bring {a} * {b} = {x} {things}.", "With the teacher's there are {x} + {c} = {y} {things}."),
    ),
    _Template(
        _add_subtract,
        "A farm had {a} sheep. In spring {b} lambs were born, and in autumn {name} bought {c} animals from it. "
        "What is the size of the flock after that?",
        ("In spring the flock grew to {a} + {b} = {x} animals.", "In autumn {x} - {c} = {y} animals were left."),
    ),
    _Template(
        _subtract_divide,
        "Out of {a} dollars of prize money {name} pays a fee of {b} dollars; {c} players split what remains evenly. "
        "What does one player receive in dollars?",
        ("After the fee {a} - {b} = {x} dollars remain.", "One player receives {x} / {c} = {y} dollars."),
    ),
)


def make_problems(
    train: int = 3000, held_out: int = 300, seed: int = 0
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Draw problems to learn from, and others to be tested on.

    The held-out problems ask for the same arithmetic in other words and situations: no template is shared. Each split
    depends on its own size and the seed only.

    Args:
        train: Number of problems to learn from.
        held_out: Number of problems held out.
        seed: Seed of names, objects, numbers and order.

    Returns:
        Both splits, each a list of rows with ``prompt`` ("Question: ...", then "Answer:" on a line of its own) and
        ``completion`` (a line of working a step, then "#### " and the answer, a non-negative integer). No prompt
        occurs twice.

    Raises:
        ValueError: If a size is negative, or more problems are asked for than can be told apart.
    """
    if train < 0 or held_out < 0:
        raise ValueError(f"{train} and {held_out} problems were asked for; give numbers that are not negative.")
    return _draw_rows(_TRAIN, train, f"train {seed}"), _draw_rows(_HELD_OUT, held_out, f"held out {seed}")


def _draw_rows(templates: Sequence[_Template], count: int, seed: str) -> list[dict[str, str]]:
    rng = random.Random(seed)
    completions: dict[str, str] = {}
    draws = 0
    while len(completions) < count:
        # Templates take turns, so that each has its share even of a small set.
        template = templates[len(completions) % len(templates)]
        values = {"name": rng.choice(_NAMES), "things": rng.choice(_THINGS), **template.draw(rng)}
        lines = [*template.steps, "#### {y}"]
        prompt = f"Question: {template.question}\nAnswer:".format(**values)
        completions.setdefault(prompt, " " + "\n".join(lines).format(**values))
        draws += 1
        if draws > _MAX_DRAWS_PER_ROW * (count + 1):
            raise ValueError(f"{count} problems are more than can be told apart; ask for {len(completions)} or fewer.")
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in completions.items()]
    rng.shuffle(rows)
    return rows

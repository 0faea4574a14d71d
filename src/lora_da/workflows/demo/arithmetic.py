"""Worded arithmetic problems with worked solutions, drawn from a seed: a task that needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

_NAMES = ("Ada", "Ben", "Clara", "David", "Elena", "Farid", "Grace", "Hugo", "Irene", "Jonas", "Kemal", "Lena", "Maria")
_THINGS = ("pens", "apples", "books", "stamps", "marbles", "candles", "cookies", "buttons", "cards", "eggs", "flowers")

_MAX_DRAWS_PER_ROW = 100


def _draw_numbers(rng: Random) -> dict[str, int]:
    """Numbers with p = a · b, q = p − c, s = a + b and t = s − d, all of them positive."""
    a, b = rng.randint(3, 40), rng.randint(3, 40)
    c, d = rng.randint(2, a * b - 2), rng.randint(2, a + b - 2)
    return {"a": a, "b": b, "c": c, "d": d, "p": a * b, "q": a * b - c, "s": a + b, "t": a + b - d}


# A question, and below it a line of working for each step; the last number is the answer.
_TRAIN = (
    "{name} has {a} boxes with {b} {things} in each box and gives away {c}. How many {things} are left?\n"
    "{a} boxes of {b} {things} are {a} * {b} = {p} {things}.\n{p} - {c} = {q} {things} remain.",
    "{name} earns {b} dollars an hour, works {a} hours and spends {c} dollars. How many dollars does {name} keep?\n"
    "{a} hours bring {a} * {b} = {p} dollars.\n{p} - {c} = {q} dollars are kept.",
    "{name} finds {a} {things} on Monday and {b} on Tuesday, then loses {d}. How many {things} does {name} have?\n"
    "{name} finds {a} + {b} = {s} {things}.\nThen {s} - {d} = {t} {things} are left.",
    "{name} drives a bus with {a} people. Then {b} get on and {d} get off. How many people are on the bus?\n"
    "With the new people there are {a} + {b} = {s}.\n{s} - {d} = {t} people stay on the bus.",
    "{name} shares {p} {things} equally among {b} friends. How many {things} does each friend get?\n"
    "Each friend gets {p} / {b} = {a} {things}.",
    "{name} packs {p} {things} into bags of {b} {things} each. How many bags does {name} fill?\n"
    "The {things} fill {p} / {b} = {a} bags.",
)
_HELD_OUT = (
    "There are {a} shelves holding {b} {things} apiece. {name} takes {c}. What number of {things} stays there?\n"
    "The shelves hold {a} * {b} = {p} {things}.\n{p} - {c} = {q} {things} stay.",
    "A farm had {a} sheep. In spring {b} lambs were born, and {name} bought {d}. What is the size of the flock?\n"
    "In spring the flock grew to {a} + {b} = {s} animals.\nThen {s} - {d} = {t} animals were left.",
    "{b} players split the {p} {things} that {name} has won evenly. What does one player receive?\n"
    "One player receives {p} / {b} = {a} {things}.",
)


def make_problems(
    train: int = 3000, held_out: int = 300, seed: int = 0
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Draw problems to learn from, and others to be tested on.

    The held-out problems ask for the same arithmetic in other words and situations: no template is shared. Each split
    depends on its own size and the seed only.

    Returns:
        Both splits, each a list of rows with ``prompt`` ("Question: ...", then "Answer:" on a line of its own) and
        ``completion`` (a line of working a step, then "#### " and the answer, a positive integer). No prompt occurs
        twice.

    Raises:
        ValueError: More problems are asked for than can be told apart.
    """
    return _draw_rows(_TRAIN, train, f"train {seed}"), _draw_rows(_HELD_OUT, held_out, f"held out {seed}")


def _draw_rows(templates: Sequence[str], count: int, seed: str) -> list[dict[str, str]]:
    rng = Random(seed)
    completions: dict[str, str] = {}
    for _ in range(_MAX_DRAWS_PER_ROW * count):
        if len(completions) == count:
            break
        # Templates take turns, so that each has its share even of a small set.
        template = templates[len(completions) % len(templates)]
        text = template.format(name=rng.choice(_NAMES), things=rng.choice(_THINGS), **_draw_numbers(rng))
        question, _, working = text.partition("\n")
        answer = working.rpartition(" = ")[2].split()[0].rstrip(".")
        completions.setdefault(f"Question: {question}\nAnswer:", f" {working}\n#### {answer}")
    else:
        if count:
            raise ValueError(f"{count} problems are more than can be told apart; ask for {len(completions)} or fewer.")
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in completions.items()]
    rng.shuffle(rows)
    return rows

"""Layouts of inputs that are written down: each row holds a number of its example and position."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lora_da.statistics.batches.padding.layout import Call, Comparison, Found, Layout, Unplaced

MASK = torch.tensor([[True, True, False, False], [True] * 4, [True, True, True, False]])
ADDED, CHANGED = 3, 1
Make = Callable[[Tensor], Tensor]


def _tokens(mask: Tensor, changed: bool = False) -> Tensor:
    """A number for each position of each example, (B, L, 4); padding's is zero."""
    examples, length = mask.shape
    numbers = torch.arange(1.0, length + 1)[None] + 10 * torch.arange(1.0, examples + 1)[:, None]
    if changed:
        numbers[CHANGED] *= 2
    numbers = numbers * mask
    return torch.stack([numbers, numbers.square(), numbers.sin(), torch.ones_like(numbers)], -1)


def _found(make: Make, mask: Tensor = MASK) -> Found:
    longer = torch.nn.functional.pad(mask, (0, ADDED))
    calls = [Call.of(make(_tokens(one, changed))) for one, changed in ((mask, False), (mask, True), (longer, False))]
    return Comparison("input", mask, "right", ADDED, CHANGED).find(*calls)


def _before(x: Tensor) -> Tensor:
    return torch.cat([torch.ones(len(x), 2, 4), x], 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x.transpose(0, 1),
        lambda x: x.flatten(0, 1),
        lambda x: x.transpose(0, 1).flatten(0, 1),
        lambda x: x[:, None].expand(-1, 3, -1, -1),
        lambda x: x[None],
        lambda x: x[:, :, None],
    ],
    ids=["batch first", "sequence first", "flattened", "flattened, sequence first", "heads", "leading", "inner"],
)
def test_tokens_are_found_wherever_they_lie(make: Make) -> None:
    found = _found(make)
    assert isinstance(found, Layout)
    given = make(_tokens(MASK))
    rows = found.rows(tuple(given.shape[:-1]), MASK)
    assert rows is not None
    assert torch.equal(rows, given.flatten(0, -2)[:, 0] > 0)  # padding's rows are the ones with a zero
    assert found.rows((7, 5), MASK) is None


def test_rows_beside_the_text_count() -> None:
    for make, place in ((_before, (2, 0)), (lambda x: torch.cat([x, torch.ones(len(x), 2, 4)], 1), (0, 2))):
        found = _found(make)
        assert isinstance(found, Layout)
        assert (found.before, found.after) == place
        rows = found.rows((3, 6), MASK)
        assert rows is not None
        assert int(rows.sum()) == int(MASK.sum()) + 6


def test_where_several_positions_make_one_row_examples_by_themselves_are_counted() -> None:
    found = _found(lambda x: x[:, 1::2])
    assert isinstance(found, Layout)
    assert found.counted
    counts = torch.tensor([1, 2, 1])
    rows, last = found.rows((3, 2), MASK, counts), found.rows((3, 2), MASK, counts, "left")
    assert rows is not None
    assert last is not None
    assert (rows.tolist(), last.tolist()) == (
        [True, False, True, True, True, False],
        [False, True, True, True, False, True],
    )
    assert found.rows((3, 2), MASK) is None


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda x: x[:, 0], Unplaced.EXAMPLE),
        (lambda x: x[:, :2], Unplaced.FIXED),
        (lambda x: torch.ones(1, 12, 4), Unplaced.OFF),  # as many rows as positions, by chance
        (lambda x: torch.ones(1, x.shape[1], 4), Unplaced.OFF),  # a table that grows
        (lambda x: x.sum(0)[None].expand(3, -1, -1), Unplaced.OFF),  # examples are mixed
        (lambda x: x[:, :, None].expand(-1, -1, x.shape[1], -1), Unplaced.OFF),  # pairs of positions
        (lambda x: x.flatten(0, 1)[x.flatten(0, 1)[:, 0] > 12], Unplaced.CHOSEN),
    ],
)
def test_what_is_no_layout(make: Make, found: Unplaced) -> None:
    assert _found(make) is found


def test_a_table_is_none_even_beside_a_single_example() -> None:
    assert _found_single(lambda x: torch.ones(1, x.shape[1], 4)) is Unplaced.OFF
    assert isinstance(_found_single(lambda x: x), Layout)


def _found_single(make: Make) -> Found:
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[0, 2:] = False
    return _found(make, mask)

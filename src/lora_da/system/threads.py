"""Many small pieces of linear algebra side by side, each on one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_side_by_side(
    function: Callable[[Item], Result], items: Sequence[Item], most: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, on as many threads as torch may use.

    Each of them computes alone. That keeps the cores busy where torch's own threads would wait for each other at every
    step of a small factorisation, twenty times as long as it takes if other programs have the cores; and what is
    computed does not depend on how many threads there are.

    Args:
        function: Called on another thread, for one item.
        items: What it is called with.
        most: So many threads at most.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # also of threads that begin later
    try:
        with ThreadPoolExecutor(max(1, min(threads, len(items), most or threads))) as pool:
            yield from pool.map(function, items)
    finally:
        torch.set_num_threads(threads)

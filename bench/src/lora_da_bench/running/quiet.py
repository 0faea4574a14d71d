"""Progress bars, and silence for them where a longer job has a bar of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import datasets
from tqdm.auto import tqdm
from transformers.utils import logging

_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


def bar(*arguments: Any, **options: Any) -> Any:
    """A bar of tqdm; within :func:`quiet` one that does not show."""
    return tqdm(*arguments, disable=_QUIET.get(), **options)


@contextmanager
def quiet() -> Iterator[None]:
    """Show none of the bars of tasks, of datasets ("Generating train split") and transformers ("Loading weights")."""
    enable: list[Callable[[], None]] = []
    if not datasets.are_progress_bars_disabled():
        datasets.disable_progress_bars()
        enable.append(datasets.enable_progress_bars)
    if logging.is_progress_bar_enabled():
        logging.disable_progress_bar()
        enable.append(logging.enable_progress_bar)
    before = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(before)
        for restore in enable:
            restore()

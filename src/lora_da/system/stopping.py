"""Ctrl-C and SIGTERM: the work ends in order, and one line says what is kept and how to go on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class StoppedError(BaseException):
    """The process is to end; no ``Exception``, so that nothing takes it for a fault of its own.

    Attributes:
        signal: Which signal asked for it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


@dataclass
class _State:
    """How many :func:`undisturbed` parts are at work, and the signal that waits for their end."""

    undisturbed: int = 0
    asked: int | None = None


_state = _State()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let a stop that is asked for meanwhile wait: for a moment's work that must not be half-done, such as clearing up.

    Raises:
        StoppedError: It was asked for.
    """
    _state.undisturbed += 1
    try:
        yield
    finally:
        _state.undisturbed -= 1
        if _state.asked is not None and not _state.undisturbed:
            number, _state.asked = _state.asked, None
            raise StoppedError(number)


@contextmanager
def stoppable(program: str, kept: str | Callable[[], str]) -> Iterator[None]:
    """End the work within by Ctrl-C and SIGTERM as by an error, so that nothing half-done stays, and say what is kept.

    A second signal ends the process at once.

    Args:
        program: Whose line it is.
        kept: What is kept and how to go on, in words; or a function that finds out at the end.

    Raises:
        SystemExit: With 128 and the signal's number, as shells have it.
    """

    def end(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if _state.undisturbed:
            _state.asked = number
        else:
            raise StoppedError(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except StoppedError as stop:
        if os.environ.get("RANK", "0") == "0":  # one line of a job
            told = kept() if callable(kept) else kept
            print(f"\n{program}: stopped; {told}", file=sys.stderr, flush=True)
        raise SystemExit(128 + stop.signal) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

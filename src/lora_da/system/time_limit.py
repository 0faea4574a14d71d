"""An end to what may never end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TooSlowError(ValueError):
    """Something took longer than it may."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End what is done in Python meanwhile after some seconds.

    By a signal of the system: in the main thread, where no other timer runs, and not on Windows; elsewhere without end.

    Raises:
        TooSlowError: The time is over.
    """
    usable = hasattr(signal, "SIGALRM") and threading.current_thread() is threading.main_thread()
    if not usable or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def end(*_: Any) -> None:
        raise TooSlowError(f"it took more than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

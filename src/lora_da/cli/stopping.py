"""What each command says when it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from lora_da.system.stopping import stoppable


def keeping(
    kept: str | Callable[[], str] = "nothing is written, and the same command begins anew",
) -> AbstractContextManager[None]:
    """Let Ctrl-C and SIGTERM end a command in order; see :func:`stoppable`."""
    return stoppable("lora-da", kept)

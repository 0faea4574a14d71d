"""What the commands say when they are stopped."""

from __future__ import annotations

from contextlib import AbstractContextManager

from lora_da.system.stopping import stoppable


def keeping() -> AbstractContextManager[None]:
    """Let Ctrl-C and SIGTERM end a command in order; see :func:`stoppable`."""
    return stoppable("lora-da-bench", "finished runs are kept, and the same command goes on with the others")

"""What the processes of a job must have alike before they work together, and how one's error becomes that of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lora_da.distributed.processes import Processes
from lora_da.system.hashing import hash_lines

_DOING = "comparing the processes"
_LONGEST = 200  # characters of a piece that are told


@contextmanager
def failing_together(processes: Processes | None, doing: str) -> Iterator[None]:
    """Let an error of one process end all of them, after a ``with`` block in which they don't wait for each other.

    Raises:
        ProcessError: Another process failed.
    """
    error = None
    try:
        yield
    except Exception as raised:  # raised again, in every process
        if processes is None:
            raise
        error = raised
    if processes is not None:
        processes.raise_together(error, doing)


def check_agreement(mine: Mapping[str, str], processes: Processes, remedy: str) -> None:
    """Compare what each process has, piece by piece.

    Args:
        mine: What this process has: text by name.
        processes: The job; all its processes have to call.
        remedy: What the user can do if they differ.

    Raises:
        ValueError: They differ; the message, the same in all processes, says which in what.
    """
    digest = hash_lines(repr(piece) for piece in sorted(mine.items()))
    if len(set(processes.gather_objects(digest, _DOING))) == 1:
        return
    first, *others = processes.gather_objects(dict(mine), _DOING)
    told = [
        f"process {rank} differs {difference}"
        for rank, other in enumerate(others, 1)
        if (difference := _difference(other, first)) is not None
    ]
    raise ValueError(f"not all processes of the job have the same as process 0: {'; '.join(told)}. Please {remedy}")


def _difference(other: Mapping[str, str], first: Mapping[str, str]) -> str | None:
    """The first piece in which one process differs from the first, and in how many more; None if in none."""
    names = [name for name in {**first, **other} if other.get(name) != first.get(name)]
    if not names:
        return None
    name, more = names[0], f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    here, there = (" ".join(pieces.get(name, "nothing").split())[:_LONGEST] for pieces in (other, first))
    return f"in {name}: {here}, not {there}{more}"

"""The processes of a torch.distributed job, and how they wait for each other without hanging."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Shaped

_LOGGER = logging.getLogger(__name__)


class ProcessError(RuntimeError):
    """Another process of the job failed, died or did not answer in time."""


@dataclass(frozen=True)
class Processes:
    """This process among those of its job.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        device: Where tensors have to be to be exchanged.
    """

    rank: int
    size: int
    device: torch.device

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        """Return what every process has, small plain objects, in the order of their ranks.

        Raises:
            ProcessError: A process is gone.
        """
        values: list[Any] = [None] * self.size
        with _named(doing):
            dist.all_gather_object(values, value)
        return values

    def raise_together(self, error: Exception | None, doing: str) -> None:
        """Let every process go on only if none has an error.

        Raises:
            ProcessError: Another process had an error, or is gone.
            Exception: This process's own error.
        """
        if error is not None:  # told at once, as the others may be where they don't hear of it
            _LOGGER.error("while %s, process %d: %s: %s", doing, self.rank, type(error).__name__, error)
        try:
            errors = self.gather_objects(None if error is None else f"{type(error).__name__}: {error}", doing)
        except ProcessError as lost:
            if error is not None:
                raise error from lost
            raise
        if error is not None:
            raise error
        failed = {rank: text for rank, text in enumerate(errors) if text is not None}
        if failed:
            told = "; ".join(f"process {rank}: {text}" for rank, text in failed.items())
            raise ProcessError(f"while {doing}, {told}")

    def all_reduce_sum(self, flat: Shaped[Tensor, " n"], doing: str) -> Shaped[Tensor, " n"]:
        """Return the sum of a tensor over all processes, the same to the last bit in each."""
        there = flat.to(self.device)
        with _named(doing):
            dist.all_reduce(there)
        return there.to(flat.device)

    def broadcast_object(self, source: int, value: Any, doing: str) -> Any:
        """Return one process's object, whose tensors are on the CPU, in all of them."""
        values = [value]
        with _named(doing):
            dist.broadcast_object_list(values, source, device=self.device)
        return values[0]


def current_processes() -> Processes | None:
    """Return the processes of the job that this one belongs to; None if it is alone."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    on_gpu = "nccl" in str(dist.get_backend())
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    return Processes(dist.get_rank(), dist.get_world_size(), device)


@contextmanager
def _named(doing: str) -> Iterator[None]:
    """Say what a lost connection or a timeout means."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # gloo and NCCL raise either, and subclasses
        raise ProcessError(
            f"while {doing}, another process of the job died or did not answer within the process group's timeout; see "
            f"the first error among the outputs of all processes ({str(error).splitlines()[0][:200]})"
        ) from error

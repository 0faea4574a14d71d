"""Joining a job, and who writes in it; whole jobs are in ``distributed/test_jobs``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_da.distributed.processes import ProcessError, Processes
from lora_da.workflows import job as module
from lora_da.workflows.job import joined_job, writing_together


class Beside(Processes):
    """Two processes, of which the other has the error of the test, if any."""

    error: str | None = None

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        return [self.error, self.error] if value is None else [value, value]


def join(monkeypatch: pytest.MonkeyPatch, rank: int, error: str | None = None) -> None:
    beside = Beside(rank, 2, torch.device("cpu"))
    object.__setattr__(beside, "error", error)
    monkeypatch.setattr(module, "current_processes", lambda: beside)


def test_without_a_launcher_there_is_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_job("cuda:1", 1.0) as device:
        assert device == "cuda:1"
        assert not torch.distributed.is_initialized()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="the launcher gives each its own"), joined_job("cuda:1", 1.0):
        pass


def test_the_first_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    with writing_together() as alone:
        assert alone
    for rank in (0, 1):
        join(monkeypatch, rank)
        with writing_together() as writes:
            assert writes == (rank == 0)


def test_all_fail_with_the_one_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    join(monkeypatch, 1, "OSError: the disk is full")
    with pytest.raises(ProcessError, match="while writing, process 0: OSError: the disk is full"), writing_together():
        pass
    join(monkeypatch, 0)
    with pytest.raises(OSError, match="the disk is full"), writing_together():
        raise OSError("the disk is full")

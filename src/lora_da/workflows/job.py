"""Commands under ``torchrun`` or ``accelerate launch``: every process works, the first one writes and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from lora_da.distributed.agreement import failing_together
from lora_da.distributed.processes import current_processes
from lora_da.system.launcher import check_job, count_processes


@contextmanager
def joined_job(device: str | None, timeout_minutes: float) -> Iterator[str | None]:
    """Join the job that a launcher started this process in, if any, and yield the device to use.

    A process waits so many minutes for the others before it ends with an error.

    Raises:
        ValueError: See :func:`check_job`.
    """
    check_job(device)
    if count_processes() == 1:
        yield device
        return
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu", timeout=timedelta(minutes=timeout_minutes))
    if not state.is_main_process:
        hide_bars()
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (to the process's end)
    try:
        yield str(state.device)
    finally:
        state.destroy_process_group()


def hide_bars() -> None:
    """Show no bars of datasets and transformers: the first process of a job shows them for all."""
    import datasets
    from transformers.utils import logging

    datasets.disable_progress_bars()
    logging.disable_progress_bar()


@contextmanager
def writing_together() -> Iterator[bool]:
    """Yield whether this process writes what the job makes; all wait until that is done, and fail if it fails.

    Raises:
        ProcessError: The process that writes has failed or is gone.
    """
    processes = current_processes()
    with failing_together(processes, "writing"):
        yield processes is None or processes.rank == 0

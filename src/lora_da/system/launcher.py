"""What a launcher such as ``torchrun`` or ``accelerate launch`` says of the job that it started this process in."""

from __future__ import annotations

import os


def count_processes() -> int:
    """Return how many processes the job has; 1 without a launcher.

    Raises:
        ValueError: The launcher's variable is no number.
    """
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"WORLD_SIZE={text!r} in the environment is no number of processes: unset it, or mend it")
    return int(text)


def check_job(device: str | None) -> None:
    """Refuse what can't be carried out by a job of several processes.

    Raises:
        ValueError: A device was asked for, or the launcher's variables are not all there.
    """
    if count_processes() == 1:
        return
    if device is not None and device != "cpu":
        raise ValueError(f"--device {device} can't be every process's: the launcher gives each its own; leave it out")
    if "RANK" not in os.environ:
        raise ValueError(
            f"WORLD_SIZE={count_processes()} is in the environment and RANK is not: start the processes by torchrun or "
            "accelerate launch, or unset WORLD_SIZE"
        )


def refuse_job(command: str) -> None:
    """Refuse to do in every process of a job what one alone should do.

    Raises:
        ValueError: There are several processes.
    """
    if count_processes() > 1:
        raise ValueError(
            f"{command} is not made for a job: each of the {count_processes()} processes that a launcher started "
            "(WORLD_SIZE) would do all of it and write the same files. Call it without torchrun or accelerate launch"
        )


def say_process() -> str:
    """Return " (process 2)" or such, where there are several; nothing where this one is alone."""
    rank = os.environ.get("RANK")
    return "" if rank is None or os.environ.get("WORLD_SIZE", "1") == "1" else f" (process {rank})"

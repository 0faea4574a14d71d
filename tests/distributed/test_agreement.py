"""What is said of processes that have not the same; whole jobs are in ``attacks/test_disagreeing_jobs``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_da.distributed.agreement import check_agreement, failing_together
from lora_da.distributed.processes import ProcessError, Processes

ALIKE = {"the model": "a\nb", "the rank": "4"}


class Others(Processes):
    """A job whose other processes have what the test says."""

    pieces: tuple[dict[str, str], ...]

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        own = [value] * self.size if isinstance(value, str | None) else list(self.pieces)
        return [*own[:-1], "another digest"] if isinstance(value, str) and self.pieces != (ALIKE,) * self.size else own


def job(*pieces: dict[str, str]) -> Processes:
    made = Others(0, len(pieces), torch.device("cpu"))
    object.__setattr__(made, "pieces", pieces)
    return made


def test_the_same_passes_in_any_order() -> None:
    check_agreement(dict(reversed(ALIKE.items())), job(ALIKE, ALIKE), "wait")


def test_each_process_that_differs_is_named_in_one_line() -> None:
    other, lacking = ALIKE | {"the model": "c", "the rank": "8"}, {"the rank": "4"}
    with pytest.raises(ValueError, match="not all processes") as raised:
        check_agreement(ALIKE, job(ALIKE, other, ALIKE, lacking), "mend it")
    assert str(raised.value) == (
        "not all processes of the job have the same as process 0: process 1 differs in the model: c, not a b (and 1 "
        "more); process 3 differs in the model: nothing, not a b. Please mend it"
    )


def test_an_error_is_that_of_all() -> None:
    class Failed(Processes):
        def gather_objects(self, value: Any, doing: str) -> list[Any]:
            return [None, "OSError: gone"]

    with (
        pytest.raises(ProcessError, match="while reading, process 1: OSError: gone"),
        failing_together(Failed(0, 2, torch.device("cpu")), "reading"),
    ):
        pass
    with pytest.raises(OSError, match="gone"), failing_together(None, "reading"):
        raise OSError("gone")

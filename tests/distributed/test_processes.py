"""Errors of a job whose processes have lost each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_da.distributed.processes import ProcessError, Processes


class Lost(Processes):
    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        raise ProcessError("the others are gone")


def test_a_process_tells_its_own_error_where_the_others_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    lost = Lost(1, 2, torch.device("cpu"))
    with pytest.raises(ValueError, match="no label token") as raised:
        lost.raise_together(ValueError("no label token"), "collecting statistics")
    assert isinstance(raised.value.__cause__, ProcessError)
    assert "while collecting statistics, process 1: ValueError: no label token" in caplog.text
    with pytest.raises(ProcessError, match="the others are gone"):
        lost.raise_together(None, "collecting statistics")

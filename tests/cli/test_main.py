from __future__ import annotations

import sys

import pytest

from lora_da.cli import app as module
from lora_da.cli import main
from lora_da.distributed.processes import ProcessError


@pytest.mark.parametrize(
    ("rank", "error", "told"),
    [
        (None, ValueError("no label token"), "lora-da: no label token"),
        ("0", ProcessError("while reading, process 1: ValueError"), "lora-da: while reading, process 1: ValueError"),
        ("1", ValueError("no label token"), "lora-da: no label token"),
        ("2", ProcessError("while reading, process 1: ValueError"), 1),
    ],
)
def test_errors_of_other_processes_are_told_by_the_first_alone(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, error: Exception, told: str | int
) -> None:
    def app() -> None:
        raise error

    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(module, "app", app)
    monkeypatch.setattr(sys, "argv", ["lora-da"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == told

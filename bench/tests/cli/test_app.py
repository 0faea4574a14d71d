from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lora_da_bench.cli.app import app


@pytest.mark.parametrize("command", ["compare", "laboratory"])
def test_a_job_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(app, [command, "--list"])
    assert "lora-da-bench is not made for a job: each of the 2 processes" in str(result.exception)

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from command import call
from lora_da import __version__
from lora_da.cli import _short_warning, main
from lora_da.cli import app as module
from lora_da.distributed.processes import ProcessError
from lora_da.report.notices import ReportedWarning


@pytest.mark.parametrize(
    ("rank", "size", "told"),
    [
        (None, None, "lora-da: "),
        ("0", "1", "lora-da: "),
        ("0", "3", "lora-da (process 0): "),
        ("2", "3", "lora-da (process 2): "),
    ],
)
def test_every_process_tells_an_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, size: str | None, told: str
) -> None:
    def app() -> None:
        raise ProcessError("while reading, process 1: ValueError")

    for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "app", app)
    monkeypatch.setattr(sys, "argv", ["lora-da"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == told + "while reading, process 1: ValueError"


@pytest.mark.parametrize("command", ["merge-statistics", "inspect", "plan", "demo"])
def test_commands_that_are_not_made_for_a_job_refuse(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=rf"lora-da {command} is not made for a job: each of the 2 processes"):
        call(command, "some", "--output", "thing")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE='two' in the environment is no number"):
        call(command)


def test_the_version_is_told() -> None:
    assert call("--version") == f"lora-da {__version__}\n"


@pytest.mark.parametrize("command", ["init", "plan", "inspect", "demo", "merge-statistics"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example: lora-da {command}" in call(command, "--help")


def test_the_shell_completes_options() -> None:
    given = {"_LORA_DA_COMPLETE": "complete_bash", "COMP_WORDS": "lora-da init --rank-", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from lora_da.cli import main; sys.argv = ['lora-da']; main()"],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["--rank-budget"]


@pytest.mark.parametrize(("rank", "shown"), [(None, True), ("0", True), ("1", False)])
def test_one_process_of_a_job_tells_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: str | None, shown: bool
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    _short_warning("look here", UserWarning)
    _short_warning("of a library", FutureWarning)
    _short_warning("in the report as well", ReportedWarning)
    assert capsys.readouterr().err == ("warning: look here\n" if shown else "")

from __future__ import annotations

import pytest

from lora_da.system.provenance import describe_command, find_versions


def test_versions_of_what_is_installed() -> None:
    assert set(find_versions(["torch", "no-such-package"])) == {"python", "torch"}


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/opt/venv/bin/lora-da", "demo", "--output", "my run"], "lora-da demo --output 'my run'"),
        (["/opt/lib/lora_da/__main__.py", "demo"], "python -m lora_da demo"),
        (["benchmarks/busy.py", "--layers", "7"], "python benchmarks/busy.py --layers 7"),
    ],
)
def test_a_command_holds_no_folder_of_an_installed_program(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: str
) -> None:
    monkeypatch.setattr("sys.argv", arguments)
    assert describe_command() == command

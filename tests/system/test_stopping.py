from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_da.system.files import atomic_path
from lora_da.system.stopping import stoppable


@pytest.mark.parametrize("kept", ["all is kept", lambda: "all is kept"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_in_order_and_in_one_line(
    number: signal.Signals, kept: str | Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)

    def work() -> None:
        with stoppable("program", kept), atomic_path(tmp_path / "a") as draft:
            draft.write_text("half")
            try:
                os.kill(os.getpid(), number)
            except Exception:
                pytest.fail("it was taken for an error of the work")

    with pytest.raises(SystemExit) as stop:
        work()
    assert stop.value.code == 128 + number
    assert capsys.readouterr().err == "\nprogram: stopped; all is kept\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before

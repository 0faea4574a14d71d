"""What commands say when they are stopped, in a process that is."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import os, sys
from lora_da.cli.stopping import keeping
with keeping({words}):
    os.kill(os.getpid(), {signal})
    print("went on")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "lora-da: stopped; nothing is written, and the same command begins anew"),
        ("'all is kept'", "lora-da: stopped; all is kept"),
    ],
)
def test_one_line_and_the_status_of_the_signal(number: signal.Signals, words: str, told: str) -> None:
    program = _PROGRAM.format(words=words, signal=int(number))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"\n{told}\n")

"""Writers of files and folders killed at each of their steps: the target is whole, old or new, and a rerun sweeps."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from attacks.rounds import main
from lora_da.system.files import sweep

_WRITER = """
import os, signal, sys
from pathlib import Path
from lora_da.system import files
from lora_da.system.files import atomic_path
from lora_da.system.stopping import stoppable
target, kind, step, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), getattr(signal, sys.argv[4])
seen = 0

def count(event, _):
    global seen
    if event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open", "tempfile.mkdtemp", "ctypes.dlsym"):
        seen += 1
        if seen == step:
            os.kill(os.getpid(), number)

if kind == "moved":  # as on systems where two folders can't change places
    files._exchange = lambda *_: False
sys.addaudithook(count)
with stoppable("writer", "the old output is kept"):
    with atomic_path(target, overwrite=True) as draft:
        if kind != "file":
            draft.mkdir()
            for name in ("a", "b"):
                (draft / name).write_text(sys.argv[5] * 1000)
        else:
            draft.write_text(sys.argv[5] * 1000)
"""


def _write(target: Path, kind: str, step: int, how: str, mark: str) -> int:
    command = [sys.executable, "-c", _WRITER, str(target), kind, str(step), how, mark]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


def _marks(target: Path, kind: str) -> set[str]:
    """What the target holds: one mark if it is whole."""
    files = [target] if kind == "file" else [target / "a", target / "b"]
    texts = {file.read_text() if file.is_file() else "" for file in files}
    return {text[:1] if text in ("o" * 1000, "n" * 1000) else "torn" for text in texts}


def attack(number: int) -> list[str]:
    """Kill one writer at one step, then write again; a folder without exchange is put back by that."""
    chance = random.Random(number)
    kind, how = ("folder", "file", "moved")[number % 3], ("SIGKILL", "SIGTERM")[number // 3 % 2]
    step = number // 6 + 1 if number < 180 else chance.randint(1, 30)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "target"
        _write(target, kind, 0, how, "o")
        ended = _write(target, kind, step, how, "n")
        if kind == "moved":  # which has a moment without a target, that the next run ends
            sweep(target)
        what = f"{kind}, {how} at step {step}"
        faults = [] if len(_marks(target, kind) & {"o", "n"}) == 1 == len(_marks(target, kind)) else [f"{what}: torn"]
        left = [path.name for path in Path(folder).iterdir() if path != target]
        if how == "SIGTERM" and left and ended == 128 + signal.SIGTERM:
            faults.append(f"{what}: {left} is left")
        _write(target, kind, 0, how, "n")
        left = [path.name for path in Path(folder).iterdir() if path != target]
        if left or _marks(target, kind) != {"n"}:
            faults.append(f"{what}: after a rerun there is {left}, and the target is {_marks(target, kind)}")
    return faults


if __name__ == "__main__":
    main(attack, 180)

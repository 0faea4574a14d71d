"""Several processes in one folder: one works at a time, and a killed one's lock is free at once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from attacks.rounds import main

_WORKER = """
import os, sys, time
from pathlib import Path
from lora_da.system.locks import lock_folder
folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
try:
    with lock_folder(folder / "work"):
        inside = folder / "inside"
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where two are inside
        time.sleep(seconds)
        inside.unlink()
except BlockingIOError as error:
    assert "in use by process" in str(error), error
    sys.exit(3)
"""


def attack(number: int) -> list[str]:
    """Start several workers at once, kill one of them, and start another."""
    chance = random.Random(number)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def start(seconds: float) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", _WORKER, name, str(seconds)], stderr=subprocess.PIPE)

        workers = [start(chance.choice((0.0, 0.1, 0.5))) for _ in range(4)]
        words = [worker.communicate(timeout=60)[1].decode()[-300:] for worker in workers]
        codes = [worker.returncode for worker in workers]
        faults = [] if set(codes) <= {0, 3} and 0 in codes else [f"workers ended with {codes}: {words}"]
        killed = start(60)
        while not (folder / "inside").exists():
            pass
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        (folder / "inside").unlink()
        last = start(0)
        last_words = last.communicate()[1].decode()[-300:]
        if last.returncode:
            faults.append(f"a killed process still holds the folder: {last_words}")
        if list(folder.iterdir()):
            faults.append(f"left: {[path.name for path in folder.rglob('*')]}")
    return faults


if __name__ == "__main__":
    main(attack, 30)

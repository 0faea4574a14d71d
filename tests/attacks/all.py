"""Every attack, one after another, with what they found as a file.

    PYTHONPATH=tests python -m attacks.all --results results/attacks

``--share 0.1`` makes a tenth of the rounds, and ``--only readers,kills`` some attacks; what was found by others stays.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from attacks.rounds import run
from lora_da.system.files import write_text
from lora_da.system.provenance import describe_machine, find_versions

ROUNDS = {
    "readers": 30_000,
    "records": 5_000,
    "kills": 180,
    "killed_commands": 120,
    "outputs": 200,
    "locks": 30,
    "divergence": 20,
    "bombs": 17,
    "stale_checkpoints": 90,
    "mutated_statistics": 3_000,
    "numbers_at_edges": 2_000,
    "disagreeing_jobs": 54,
    "soak": 30,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the rounds")
    parser.add_argument("--only", default=",".join(ROUNDS), help="which attacks, separated by commas")
    parser.add_argument("--results", type=Path, help="folder to write attacks.json to")
    arguments = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for name in arguments.only.split(","):
        rounds = max(1, round(arguments.share * ROUNDS[name]))
        started = time.monotonic()
        faults = run(importlib.import_module(f"attacks.{name}").attack, 0, rounds)
        found[name] = {
            "command": shlex.join(["python", "-m", "attacks.all", *sys.argv[1:]]),
            "date": date.today().isoformat(),
            "rounds": rounds,
            "faults": faults,
            "seconds": round(time.monotonic() - started),
        }
        if arguments.results:
            record(found[name], name, arguments.results / "attacks.json")
        print(f"{name}: {rounds} rounds, {len(faults)} faults, {found[name]['seconds']} s", flush=True)
        for fault in faults:
            print(f"  {fault[:1000]}", flush=True)
    sys.exit(any(row["faults"] for row in found.values()))


def record(row: dict[str, Any], name: str, file: Path) -> None:
    """Write what an attack found beside what others had found."""
    others = json.loads(file.read_text(encoding="utf-8"))["attacks"] if file.is_file() else {}
    about = {"machine": describe_machine(), "versions": find_versions(), "attacks": others | {name: row}}
    write_text(file, json.dumps(about, indent=1) + "\n", overwrite=True)


if __name__ == "__main__":
    main()

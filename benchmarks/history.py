"""Run the benchmarks of `test_ratios.py` and add a line to their history, so that it is a curve over commits.

    python benchmarks/history.py --results results/benchmarks

A ratio is the fastest round of the work over the fastest round of what it is measured by, in the same process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from about_run import describe_run

BENCHMARKS = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=BENCHMARKS.parent / "results" / "benchmarks")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = Path(folder) / "benchmarks.json"
        command = [sys.executable, "-m", "pytest", "-q", "--benchmark-only", f"--benchmark-json={measured}"]
        subprocess.run([*command, str(BENCHMARKS / "test_ratios.py")], check=True)
        found = json.loads(measured.read_text(encoding="utf-8"))
    line = {
        **describe_run(),
        "commit": found["commit_info"]["id"],
        "changed": found["commit_info"]["dirty"],
        "ratios": ratios(found["benchmarks"]),
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    with (arguments.results / "history.jsonl").open("a", encoding="utf-8") as history:
        history.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(json.dumps(line["ratios"], indent=1))


def ratios(benchmarks: list[dict[str, Any]]) -> dict[str, float]:
    """Divide the times of each group's second benchmark by those of its first.

    Args:
        benchmarks: What pytest-benchmark measured, in the order of the tests.
    """
    groups: dict[str, list[float]] = {}
    for benchmark in benchmarks:
        groups.setdefault(benchmark["group"], []).append(benchmark["stats"]["min"])
    return {name: round(work / measure, 3) for name, (measure, work) in groups.items()}


if __name__ == "__main__":
    main()

r"""Write SVAMP's problems as rows with a prompt and a completion, the first 700 to train on and the last 300 to test.

    LORA_DA_DATA=... python benchmarks/svamp_rows.py OUT

A completion is the problem's equation and its number, as in ``( 76.0 - 25.0 )\n#### 51``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_TRAIN = 700


def main() -> None:
    """Write OUT/svamp-train.jsonl and OUT/svamp-test.jsonl."""
    problems = json.loads((Path(os.environ["LORA_DA_DATA"]) / "svamp" / "SVAMP.json").read_text(encoding="utf-8"))
    rows = [
        {
            "question": f"{problem['Body'].rstrip('. ')}. {problem['Question']}",
            "answer": f"{problem['Equation']}\n#### {problem['Answer']:g}",
        }
        for problem in problems
    ]
    for name, part in {"train": rows[:_TRAIN], "test": rows[_TRAIN:]}.items():
        text = "".join(json.dumps(row) + "\n" for row in part)
        Path(sys.argv[1], f"svamp-{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

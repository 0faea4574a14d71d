"""Write GSM8K's short problems, so that training on two CPU cores takes minutes and no row is cut.

    LORA_DA_DATA=... python benchmarks/gsm8k_short_rows.py OUT

Those of at most 400 characters, answer included (about 100 tokens): 2401 to train on and 384 to test.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_LONGEST = 400


def main() -> None:
    """Write OUT/gsm8k-short-train.jsonl and OUT/gsm8k-short-test.jsonl."""
    for name in ("train", "test"):
        lines = (Path(os.environ["LORA_DA_DATA"]) / "gsm8k" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [(line, json.loads(line)) for line in lines]
        short = [line + "\n" for line, row in rows if len(row["question"]) + len(row["answer"]) <= _LONGEST]
        Path(sys.argv[1], f"gsm8k-short-{name}.jsonl").write_text("".join(short), encoding="utf-8")


if __name__ == "__main__":
    main()

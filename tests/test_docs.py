"""What the documents say of recorded results is so."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_plans_in_the_docs_are_the_recorded_ones() -> None:
    recorded = (ROOT / "results" / "plans" / "plans.md").read_text(encoding="utf-8")
    assert recorded in (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    plans = json.loads((ROOT / "results" / "plans" / "plans.json").read_text(encoding="utf-8"))["plans"]
    first = plans[0]
    assert f"{first['sums_bytes'] / 2**30:.2f} GiB" in recorded
    assert all(plan["problem"] is None for plan in plans)

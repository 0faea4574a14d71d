"""What the documents say of recorded results is so."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_plans_in_the_docs_are_the_recorded_ones() -> None:
    recorded = (ROOT / "results" / "plans" / "plans.md").read_text(encoding="utf-8")
    assert recorded in (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    plans = json.loads((ROOT / "results" / "plans" / "plans.json").read_text(encoding="utf-8"))["plans"]
    first = plans[0]
    assert f"{first['sums_bytes'] / 2**30:.2f} GiB" in recorded
    assert all(plan["problem"] is None for plan in plans)


def test_how_it_works_names_functions_that_there_are() -> None:
    text = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8")
    names = re.findall(r"`((?:pipeline|solver|statistics)\.[\w.]+)`", text)
    assert len(names) > 10
    for module, name in (name.rsplit(".", 1) for name in names):
        assert callable(getattr(import_module(f"lora_da.{module}"), name))

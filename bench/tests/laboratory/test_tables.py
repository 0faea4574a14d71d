from __future__ import annotations

import numpy as np

from laboratory.test_results import GRID, RECORDS
from lora_da_bench.analysis.significance import estimate_difference
from lora_da_bench.laboratory.results import ArmResult, Cell, summarise
from lora_da_bench.laboratory.tables import tabulate, write_figures


def test_the_edge_of_the_grid_and_what_is_missing_are_marked() -> None:
    losses = np.array([[1.0, 2.0], [1.5, 2.5]])
    cells = {"a": Cell(1e-1, "high", (0, 1), losses), "b": Cell(1e-3, "low", (0,), losses[:1])}
    difference = estimate_difference(losses - 2.0)
    result = ArmResult("eva_frozen", cells, {"random_frozen": difference}, 3)
    row = tabulate([result], ("a", "b", "c"))[1]
    assert row[:5] == ("eva_frozen", "1-2", "1.7500 @0.1^", "1.5000 @0.001v", "–")
    low, high = f"{difference.low:+.4f}", f"{difference.high:+.4f}"
    assert row[5] == "–"
    assert row[6] == f"-0.2500 ± {difference.standard_error:.4f} [{low}, {high}]"
    assert row[7:] == ("3",)  # nothing is compared with another reference


def test_the_table_and_the_figures() -> None:
    header, *rows = tabulate(summarise(GRID, RECORDS, 4), GRID.domains)
    assert header == ("arm", "seeds", "a", "b", "mean", "- random", "- eva", "diverged")
    by_arm = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    gradient = by_arm["gradient_frozen"]
    assert gradient["seeds"] == "3"
    assert gradient["a"].endswith("@0.01")
    assert gradient["- eva"].startswith("+0.")
    assert gradient["- eva"].endswith("]*")
    assert by_arm["lora_trained"]["- random"] == "–"  # it trains A as well
    line = write_figures(summarise(GRID, RECORDS, 4), GRID.domains)
    assert [part.partition("=")[0] for part in line.split()] == [row[0] for row in rows]

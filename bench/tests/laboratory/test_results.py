from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lora_da_bench.analysis.significance import estimate_difference
from lora_da_bench.laboratory.results import summarise
from lora_da_bench.laboratory.runs import Grid, LaboratoryRecord, LaboratoryRun
from lora_da_bench.laboratory.tables import write_figures

GRID = Grid(("a", "b"), ("random", "eva", "gradient"), (4,), (1e-3, 1e-2, 1e-1), (0, 1, 2))
BLOCKS = 6


def losses_of(run: LaboratoryRun) -> tuple[float, ...]:
    """Test losses whose best rate differs from that of the selection."""
    noise = np.random.default_rng([run.seed, run.domain == "b"]).normal(size=BLOCKS)
    gain = {"random": 0.0, "eva": 0.3, "gradient": 0.2, "lora": 0.5}[run.method]
    own = np.random.default_rng([run.seed, len(run.arm)]).normal(size=BLOCKS) * 0.01
    return tuple((3 - gain + noise + own + 0.1 * run.learning_rate).tolist())


def record_of(run: LaboratoryRun) -> LaboratoryRecord:
    selection = {1e-3: 2.0, 1e-2: 1.0, 1e-1: 1.5}[run.learning_rate] + 0.1 * run.seed
    return LaboratoryRecord(run, "success", 1.0, selection, losses_of(run), 1.0, "code")


def diverged(record: LaboratoryRecord) -> LaboratoryRecord:
    return dataclasses.replace(record, status="diverged", train_loss=None, selection_loss=None, test_losses=())


RECORDS = {run: record_of(run) for run in GRID.runs()}


def test_selected_by_one_split_and_reported_by_another() -> None:
    results = {result.arm: result for result in summarise(GRID, RECORDS, 4)}
    assert list(results) == ["random_frozen", "eva_frozen", "gradient_frozen", "lora_trained"]
    cell = results["eva_frozen"].cells["b"]
    assert (cell.learning_rate, cell.edge, cell.seeds) == (1e-2, None, (0, 1, 2))
    expected = [losses_of(LaboratoryRun(seed, "b", 4, "eva", False, 1e-2)) for seed in (0, 1, 2)]
    np.testing.assert_array_equal(cell.losses, np.array(expected))


def test_differences_are_paired_and_hold_together() -> None:
    results = {result.arm: result for result in summarise(GRID, RECORDS, 4)}
    found = results["gradient_frozen"].differences["eva_frozen"]

    def values(method: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        runs = ((LaboratoryRun(seed, d, 4, method, False, 1e-2) for d in ("a", "b")) for seed in (0, 1, 2))
        return np.array([np.concatenate([losses_of(run) for run in row]) for row in runs])

    # Of three frozen arms, each pair once; LoRA is trained and alone.
    assert found == estimate_difference(values("gradient") - values("eva"), comparisons=3)
    assert results["lora_trained"].differences == {}
    assert found.mean == pytest.approx(0.1, abs=0.02)
    assert results["eva_frozen"].differences.keys() == {"random_frozen"}


def test_diverged_runs_are_never_chosen() -> None:
    bad = {run: diverged(r) if run.learning_rate == 1e-2 and run.seed == 1 else r for run, r in RECORDS.items()}
    results = summarise(GRID, bad, 4)
    assert all(cell.learning_rate == 1e-1 and cell.edge == "high" for r in results for cell in r.cells.values())
    assert all(result.diverged == 2 for result in results)
    everything = summarise(GRID, {run: diverged(r) for run, r in RECORDS.items()}, 4)
    assert not any(result.cells or result.differences for result in everything)
    assert write_figures(everything, GRID.domains).startswith("random_frozen=nan ")


def test_unfinished_seeds_do_not_count() -> None:
    part = {r: rec for r, rec in RECORDS.items() if not (r.seed == 2 and r.method == "eva" and r.learning_rate == 1e-1)}
    results = {result.arm: result for result in summarise(GRID, part, 4)}
    assert results["eva_frozen"].cells["a"].seeds == (0, 1)
    assert results["random_frozen"].cells["a"].seeds == (0, 1, 2)
    assert results["eva_frozen"].differences["random_frozen"].estimable
    none = {run: record for run, record in RECORDS.items() if run.domain == "a"}
    assert not any(result.differences for result in summarise(GRID, none, 4))
    assert "eva_frozen=nan" in write_figures(summarise(GRID, none, 4), GRID.domains)

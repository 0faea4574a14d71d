"""The linear layers of a real model, solved for every preset and compared with the dense equations.

Some blocks by default; ``--every-layer`` takes all of them, and ``--results FOLDER`` writes what was seen there.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_da import CollectionConfig, LayerInit, LoraDAConfig, Statistics, collect_statistics, solve_layer
from lora_da.loading import ModelSource, load_model
from lora_da.solver.layer import factorise_input
from lora_da.system.files import write_text
from lora_da.system.provenance import describe_machine, find_versions
from oracles import LossOracle, OracleSolution, largest_angle, relative_gap, solve, solve_in_loss_metric
from presets import PARAMETERS

RANKS = (1, 8, 64)
EXAMPLES = 16
POPULATION = 7473  # GSM8K's training set
LEAST_GAP = 1e-3
BLOCKS = (0, 29)  # of 30
# Of the objective, B·A (relative) and the subspace (radians); in the metric of the loss A is float32's.
LIMITS = {"trace": 1e-6, "error": 1e-3, "angle": 1e-3}
LIMITS_OF_LOSS = LIMITS | {"trace": 1e-5}

PRESETS = {
    "default": LoraDAConfig(population_size=POPULATION),
    "damped": dataclasses.replace(PARAMETERS, population_size=POPULATION),
    "paper": dataclasses.replace(LoraDAConfig.paper(), population_size=POPULATION),
    "released": dataclasses.replace(LoraDAConfig.released(), population_size=POPULATION),
}

pytestmark = pytest.mark.slow


LOCK = threading.Lock()


@dataclass
class Row:
    """What was seen over the layers, for one preset and rank."""

    layers: int = 0
    below_gap: int = 0
    angle: float = 0.0
    error: float = 0.0
    trace: float = 0.0
    residual: float = 0.0
    raised: int = 0
    steps: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, name: str, seen: dict[str, float], limits: dict[str, float]) -> None:
        self.layers += 1
        self.below_gap += "angle" not in seen
        self.raised += int(seen["raised"])
        self.steps += int(seen["step"])
        self.residual = max(self.residual, seen["residual"])
        for quantity, limit in limits.items():
            value = seen.get(quantity, 0.0)
            setattr(self, quantity, max(getattr(self, quantity), value))
            if not value <= limit:
                self.failures.append(f"{name}: {quantity} {value:.1e}")


def compare(statistics: Statistics, layers: list[str], config: LoraDAConfig) -> dict[int, Row]:
    """Solve the layers for all ranks, on two threads."""
    rows = {rank: Row() for rank in RANKS}
    groups: dict[str, list[str]] = {}
    for name in layers:
        groups.setdefault(statistics.input_groups[name], []).append(name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two layers at a time keep two cores busier than one layer on two
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda names: compare_group(statistics, names, config, rows), groups.values()))
    finally:
        torch.set_num_threads(threads)
    return rows


def compare_group(statistics: Statistics, names: list[str], config: LoraDAConfig, rows: dict[int, Row]) -> None:
    """Solve the layers that share an input; the oracle is solved once a layer, with the dampings really used."""
    factor = factorise_input(statistics[names[0]], config)
    for name in names:
        layer = statistics[name]
        oracle: Any = None
        for rank in RANKS:
            init = solve_layer(layer, rank, config, input_factor=factor)
            assert init is not None, f"{name} has no gradient"
            if config.metric == "loss":
                oracle = oracle or solve_in_loss_metric(layer, max(RANKS), config)
                seen = compare_in_loss_metric(init, oracle, rank)
            else:
                oracle = oracle or solve(layer, max(RANKS), config, init.input_damping, init.output_damping)
                seen = compare_one(init, oracle, rank)
            seen |= {"raised": bool(init.input_raised or init.output_raised), "step": bool(init.delta_A.any())}
            with LOCK:
                limits = LIMITS_OF_LOSS if config.metric == "loss" else LIMITS
                rows[rank].add(name, seen | {"residual": init.residual}, limits)


def compare_one(init: LayerInit, oracle: OracleSolution, rank: int) -> dict[str, float]:
    trace = float(torch.einsum("ri,ij,rj->", init.A, oracle.omega, init.A))
    wanted = float(oracle.values[:rank].sum())
    seen = {"trace": abs(trace - wanted) / abs(wanted)}
    if relative_gap(oracle.values, rank) > LEAST_GAP:
        expected = oracle.delta_A[:, :rank] @ oracle.A[:rank]
        seen["error"] = float((init.delta_A @ init.A - expected).norm() / expected.norm())
        seen["angle"] = largest_angle(init.A, oracle.A[:rank])
    return seen


def compare_in_loss_metric(init: LayerInit, oracle: LossOracle, rank: int) -> dict[str, float]:
    """In whitened coordinates, in which the rows of A are orthonormal and keep what they can of ‖Ĝ‖²."""
    rows, wanted = init.A @ oracle.root, oracle.A[:rank] @ oracle.root
    energy = float((oracle.whitened @ rows.T).square().sum())
    best = float(oracle.sizes[:rank].square().sum())
    seen = {"trace": abs(energy - best) / best}
    if relative_gap(-oracle.sizes.square(), rank) > LEAST_GAP:
        expected = oracle.step(rank)
        seen["error"] = float((init.delta_A @ init.A - expected).norm() / expected.norm()) if expected.any() else 0.0
        seen["angle"] = largest_angle(rows, wanted)
    return seen


def chosen(statistics: Statistics, every: bool) -> list[str]:
    parts = [f"model.layers.{block}." for block in BLOCKS]
    return [name for name in statistics.layers if every or any(part in name for part in parts)]


def record(results: dict[str, dict[int, Row]], folder: Path, *, every: bool) -> None:
    """Add rows to the file of results; the presets come one after another."""
    path = folder / "results.json"
    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    rows = [row for row in earlier if row["preset"] not in results]
    for preset, by_rank in results.items():
        for rank, row in by_rank.items():
            figures = dataclasses.asdict(row)
            del figures["failures"]
            rows.append({"preset": preset, "rank": rank} | figures)
    content = {
        "command": "python -m pytest -m slow tests/solver/test_real_model.py"
        + (" --every-layer" if every else "")
        + f" --results {folder}",
        "what": f"linear layers of SmolLM2-135M-Instruct against the dense float64 oracle on the same statistics of "
        f"{EXAMPLES} GSM8K examples: largest angle between subspaces, relative errors of B·A and of tr(AΩAᵀ), in the "
        "metric of the loss of ‖ĜA‖² in its coordinates; below_gap counts layers with (ω_{r+1} − ω_r)/|ω_1| ≤ "
        f"{LEAST_GAP} (σ² for ω there), for which only the trace is compared; steps counts those whose B is not zero",
        "machine": describe_machine(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": find_versions(),
        "rows": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n", overwrite=True)


@pytest.fixture(scope="module")
def model_and_batches(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[torch.nn.Module, list[dict[str, torch.Tensor]]]:
    pytest.importorskip("gguf")
    root = os.environ.get("LORA_DA_DATA")
    if root is None:
        pytest.skip("LORA_DA_DATA is not set: no GSM8K to calibrate on")
    data = Path(root) / "gsm8k" / "train.jsonl"
    if not data.is_file():
        pytest.skip("there is no gsm8k/train.jsonl in $LORA_DA_DATA")
    source = ModelSource("smollm2", dtype="float32", device="cpu")
    try:
        loaded = load_model(source, tmp_path_factory.mktemp("smollm2") / "output")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    batches = []
    with data.open(encoding="utf-8") as lines:
        for line in itertools.islice(lines, EXAMPLES):
            example = json.loads(line)
            question = loaded.tokenizer(f"Question: {example['question']}\nAnswer:")["input_ids"]
            answer = [*loaded.tokenizer(f" {example['answer']}")["input_ids"], loaded.tokenizer.eos_token_id]
            ids = torch.tensor([question + answer])
            labels = torch.tensor([[-100] * len(question) + answer])
            batches.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return loaded.model, batches


@pytest.fixture(scope="module")
def collect(
    model_and_batches: tuple[torch.nn.Module, list[dict[str, torch.Tensor]]],
) -> Callable[[CollectionConfig], Statistics]:
    """Collect statistics, once for presets that ask for the same; where one has only Y's diagonal, of the full Y."""
    return functools.cache(lambda config: collect_statistics(*model_and_batches, config, progress=False))


@pytest.mark.parametrize("preset", PRESETS)
def test_layers_of_a_real_model(
    collect: Callable[[CollectionConfig], Statistics], preset: str, request: pytest.FixtureRequest
) -> None:
    every, folder = request.config.getoption("--every-layer"), request.config.getoption("--results")
    if preset == "damped" and not every:
        pytest.skip("with --every-layer alone: the other presets in this metric solve the same equations")
    full: Any = "diagonal" if preset == "released" else "full"
    statistics = collect(dataclasses.replace(PRESETS[preset].collection, output_factor=full))
    assert len(statistics.layers) == 210
    assert statistics.examples == EXAMPLES
    layers = chosen(statistics, every)
    assert len(layers) == (210 if every else 14)
    rows = compare(statistics, layers, PRESETS[preset])
    if folder is not None:
        record({preset: rows}, Path(folder), every=every)
    assert all(row.layers == len(layers) for row in rows.values())
    failures = [f"rank {rank}, {failure}" for rank, row in rows.items() for failure in row.failures]
    assert not failures, "\n".join(failures)

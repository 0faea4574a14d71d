"""A plan holds what a collection then takes, is the same in all processes, and is kept for a restart."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_da.pipeline._collection_plan as module
from lora_da import CollectionConfig, collect_statistics, initialize_lora_da_weights
from lora_da.distributed.processes import Processes
from lora_da.pipeline._collection_plan import plan_collection
from lora_da.pipeline.calibration_source import CalibrationSource, open_source
from lora_da.pipeline.checkpoint import Checkpoint
from lora_da.pipeline.memory_limits import MemoryLimits
from models import batches_of, causal_examples, tiny_llama, with_lora
from presets import PARAMETERS

CONFIG = CollectionConfig()
BATCHES = batches_of(causal_examples(6), 2)


def source_of(model: Any) -> CalibrationSource:
    return open_source(model, None, BATCHES, 6, None, progress=False)


def limit_to(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_memory_limits", lambda *_, **__: MemoryLimits({"0": size}, None))


@functools.cache
def bytes_collected() -> int:
    """What the sums of all layers take, without those of half of the examples."""
    found = collect_statistics(tiny_llama(), BATCHES, CONFIG, progress=False)
    sums = (found.gradient_sums, found.output_sums, found.input_sums)
    return sum(tensor.nbytes for tensors in sums for tensor in tensors.values())


def test_layers_share_their_input_where_room_is_scarce() -> None:
    size = bytes_collected()
    exact = plan_collection(source_of(tiny_llama()), CONFIG, size)
    assert exact.bytes == (size,)
    assert len(plan_collection(source_of(tiny_llama()), CONFIG, size - 1).passes) == 2


def test_the_model_is_run_only_to_find_what_is_shared() -> None:
    model, runs = tiny_llama(), []
    model.register_forward_pre_hook(lambda *_: runs.append(1))
    plan = plan_collection(source_of(model), CONFIG, "1GB")
    assert not runs
    assert plan.passes == (tuple(source_of(model).layers),)
    plan_collection(source_of(model), CONFIG, bytes_collected())
    assert len(runs) == 1


class Beside(Processes):
    """Two processes, of which the other has the limits of the test and sums that carry their roundings along."""

    limits: MemoryLimits

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        return [value, (self.limits, True) if isinstance(value, tuple) else value]


def test_the_process_with_the_least_room_decides() -> None:
    size = bytes_collected()
    beside = Beside(0, 2, torch.device("cpu"))
    object.__setattr__(beside, "limits", MemoryLimits({"0": 3 * size // 2}, None))
    source = dataclasses.replace(source_of(tiny_llama()), processes=beside)
    assert plan_collection(source, CONFIG, "1GB").bytes == (3 * size // 2,)  # bfloat16 beside float32
    object.__setattr__(beside, "limits", MemoryLimits({"0": 3 * size // 2 - 2}, None))
    assert len(plan_collection(source, CONFIG, "1GB").passes) == 2


def test_no_room_beside_the_solver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(0, monkeypatch)
    # of down_proj in float64: 4·24² for its input factor, 3·24·16 for Δ
    with pytest.raises(ValueError, match=rf"solution of the largest layer, {8 * (4 * 24**2 + 3 * 24 * 16) / 1024} KiB"):
        plan_collection(source_of(tiny_llama()), CONFIG, "auto")


def test_a_restart_keeps_the_passes_whatever_is_free_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    for free in (bytes_collected() // 2, 10**9):
        limit_to(free, monkeypatch)
        model, runs = tiny_llama(), list[int]()
        model.model.layers[0].register_forward_pre_hook(
            lambda *_, runs=runs: runs.append(1) if torch.is_grad_enabled() else None
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = Checkpoint(tmp_path, every=1)
            initialize_lora_da_weights(
                with_lora(model), BATCHES, PARAMETERS, checkpoint=checkpoint, measure_loss=False, progress=False
            )
        passes.append(len(runs) / len(BATCHES))
    assert passes == [2, 0]  # all of the second one's sums are the first one's

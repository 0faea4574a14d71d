"""The plan's figures against what really happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from folders import sums_file, tiny_model_folder
from lora_da import LoraDAConfig, collect_statistics
from lora_da.loading import ModelSource, RowFormat, load_model, load_tokenizer
from lora_da.workflows import plan as estimate
from lora_da.workflows.calibration_sample import read_sample
from lora_da.workflows.plan import Machine, Plan, Workload, plan_for_sample, plan_initialization, this_machine
from lora_da.workflows.settings import AdapterShape, Calibration

WORKLOAD = Workload(examples=8, tokens=80, longest=10, batch_size=4)
ROOMY = Machine("cpu", 2**30, 2**30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return ModelSource(str(tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model")))


def planned(model: ModelSource, machine: Machine = ROOMY, budget: str = "auto", **changes: int) -> Plan:
    workload = replace(WORKLOAD, **changes)
    return plan_initialization(model, AdapterShape(), LoraDAConfig(), workload, machine, budget)


def test_a_plan_foresees_layers_tokens_and_memory(model: ModelSource, tmp_path: Path) -> None:
    data, calibration = str(sums_file(tmp_path / "sums.jsonl")), Calibration(examples=10, batch_size=4)
    sample = read_sample(data, "train", RowFormat(), load_tokenizer(model), calibration, seed=0)
    plan = plan_for_sample(model, sample, AdapterShape(), LoraDAConfig(), calibration)

    statistics = collect_statistics(load_model(model).model, sample.examples.batches(4), progress=False)
    assert sum(count for count, _, _ in plan.layers.values()) == len(statistics.layers)
    assert plan.layers["mlp.down_proj"] == (2, 48, 32)
    assert plan.workload.tokens == statistics.tokens["model.layers.0.mlp.up_proj"]
    assert (plan.workload.rows, plan.workload.examples) == (40, 10)
    loaded_again = AutoModelForCausalLM.from_pretrained(model.model)
    assert plan.parameters == sum(parameter.numel() for parameter in loaded_again.parameters())
    assert plan.model_bytes == 4 * plan.parameters
    sums = statistics.gradient_sums, statistics.input_sums, statistics.output_sums, statistics.half.gradient_sums
    held = sum(4 * tensor.numel() for tensors in sums for tensor in tensors.values())
    assert plan.statistics_bytes == held
    assert plan.memory is not None
    assert plan.memory.bytes == (held,)
    assert plan.problem is None
    assert plan.seconds() > 0


def test_full_output_factors_take_more_memory(model: ModelSource) -> None:
    paper = plan_initialization(model, AdapterShape(), LoraDAConfig.paper(), WORKLOAD, ROOMY)
    assert paper.statistics_bytes > planned(model).statistics_bytes


def test_budgets_become_passes_and_more_work(model: ModelSource) -> None:
    whole = planned(model)
    parts = planned(model, budget=str(whole.statistics_bytes // 2))
    assert whole.memory
    assert parts.memory
    assert len(whole.memory.passes) == 1 < len(parts.memory.passes)
    assert parts.collect_operations > whole.collect_operations
    assert parts.solve_operations == whole.solve_operations
    on_gpu = planned(model, Machine("cuda", 2**30, 2**30), budget=str(whole.statistics_bytes // 2))
    assert on_gpu.memory
    assert on_gpu.memory.place == "host"
    assert planned(model, budget="100").problem


def test_what_does_not_fit_is_told_with_what_would_help(model: ModelSource) -> None:
    fitting = planned(model)
    weights = planned(model, Machine("cpu", fitting.model_bytes - 1, 0)).problem
    assert weights
    assert "the model's weights take" in weights
    assert "--dtype bfloat16" in weights
    held = fitting.model_bytes + fitting.statistics_bytes
    tight = Machine("cpu", held + int(0.8 * fitting.activation_bytes), 0)
    batch = planned(model, tight, "1GiB").problem
    assert batch
    assert "give --batch-size 3 or a smaller --memory-budget" in batch
    assert not planned(model, tight, "1GiB", batch_size=3).problem
    tighter = Machine("cpu", held + int(0.2 * fitting.activation_bytes), 0)
    assert "shorter examples (--max-length)" in (planned(model, tighter, "1GiB").problem or "")


def test_a_layer_that_can_not_be_solved_is_told_beforehand(model: ModelSource) -> None:
    fitting = planned(model)
    need = fitting.model_bytes + fitting.solver_bytes
    assert "solving the largest layer takes" in (planned(model, Machine("cpu", need - 1, 0)).problem or "")
    on_host = Machine("cuda", need - 1, fitting.solver_bytes)
    assert "solving" not in (planned(model, on_host, "1GiB").problem or "")
    nowhere = Machine("cuda", need - 1, fitting.solver_bytes - 1)
    assert "solving the largest layer takes" in (planned(model, nowhere, "1GiB").problem or "")
    paper = plan_initialization(model, AdapterShape(), LoraDAConfig.paper(), WORKLOAD, ROOMY)
    assert paper.solver_bytes > fitting.solver_bytes


def test_processes_of_a_job_share_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "free_bytes", lambda _device: 1000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert this_machine("cpu") == Machine("cpu", 250, 250)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert this_machine("cpu") == Machine("cpu", 1000, 1000)


def test_many_batches_need_room_for_their_carries(model: ModelSource) -> None:
    few, many = planned(model, examples=256, batch_size=1), planned(model, examples=257, batch_size=1)
    halves = sum(4 * count * d_in * d_out for count, d_in, d_out in few.layers.values())  # of so few layers, of all
    assert many.statistics_bytes - halves == (few.statistics_bytes - halves) * 6 // 4

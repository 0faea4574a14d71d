"""The dry run's figures against what really happens."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM

from folders import sums_file, tiny_model_folder
from lora_da import LoraDAConfig, collect_statistics
from lora_da.experiments.estimate import plan_initialization
from lora_da.experiments.initialization import Calibration
from lora_da.experiments.sources import AdapterShape, DataSource, ModelSource, batches_of, calibration_sample


def test_a_plan_foresees_layers_tokens_and_memory(tmp_path: Path) -> None:
    folder, data = tiny_model_folder(tmp_path / "model"), DataSource(str(sums_file(tmp_path / "sums.jsonl")))
    source, calibration = ModelSource(str(folder)), Calibration(examples=10, batch_size=4, seed=0)
    plan = plan_initialization(source, data, AdapterShape(), LoraDAConfig(), calibration)

    loaded = source.load(tmp_path / "out")
    examples = data.tokenized(calibration_sample(data.rows(), 10, 0), loaded.tokenizer)
    statistics = collect_statistics(loaded.model, batches_of(examples, loaded.tokenizer, 4), progress=False)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(count for count, _, _ in plan.layers.values()) == len(statistics.layers)
    assert plan.layers["mlp.down_proj"] == (2, 48, 32)
    assert plan.tokens == statistics.tokens["model.layers.0.mlp.up_proj"]
    assert (plan.rows, plan.examples) == (40, 10)
    assert plan.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert plan.model_bytes == 4 * plan.parameters
    held = sum(
        4 * tensor.numel()
        for tensors in (statistics.gradient_sums, statistics.input_sums, statistics.output_sums)
        for tensor in tensors.values()
    )
    assert held <= plan.statistics_bytes <= 2 * held
    assert plan.seconds > 0


def test_full_output_factors_take_more_memory(tmp_path: Path) -> None:
    folder, data = tiny_model_folder(tmp_path / "model"), DataSource(str(sums_file(tmp_path / "sums.jsonl")))
    plans = [
        plan_initialization(ModelSource(str(folder)), data, AdapterShape(), config, Calibration(examples=4))
        for config in (LoraDAConfig(), LoraDAConfig.paper())
    ]
    assert plans[1].statistics_bytes > plans[0].statistics_bytes

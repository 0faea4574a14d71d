"""Records are read as they were written, and PEFT's comparison finds its keys in them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lora_da_bench.experiment.record import load_record
from simulated_records import description, simulated

# What PEFT's method_comparison reads of each result.
RUN_INFO = {"created_at", "total_time", "experiment_name", "peft_branch", "train_config", "peft_config", "error_msg"}
TRAIN_INFO = {
    "status", "train_time", "file_size", "metrics", "accelerator_memory_max", "accelerator_memory_reserved_avg",
    "accelerator_memory_reserved_99th",
}  # fmt: skip
METRICS = {"test accuracy", "train loss", "train samples", "train total tokens"}
PACKAGES = {f"{name}-version" for name in ("peft", "transformers", "datasets", "torch", "bitsandbytes")}


def test_a_record_survives_and_has_pefts_keys(tmp_path: Path) -> None:
    final = simulated(description(), accuracy=0.5)[-1]
    versions = {"peft": "1", "transformers": "2", "torch": "3"}
    about = final.about | {"model": "tiny", "trained_on": {"examples": 8, "tokens": 90}, "versions": versions}
    final = dataclasses.replace(final, about=about, metrics=final.metrics | {"accuracy": 0.5})
    path = final.save(tmp_path)
    assert load_record(path) == final
    content = json.loads(path.read_text())
    assert content["run_info"].keys() == RUN_INFO
    assert content["run_info"]["train_config"]["model_id"] == "tiny"
    assert content["run_info"]["peft_config"]["peft_type"] == "LORA"
    assert content["run_info"]["total_time"] == 12.0
    assert content["train_info"].keys() >= TRAIN_INFO
    last = content["train_info"]["metrics"][-1]
    assert last.keys() >= METRICS
    assert (last["test accuracy"], last["train samples"], last["train total tokens"]) == (0.5, 8, 90)
    assert content["meta_info"]["package_info"].keys() >= PACKAGES
    assert "system_info" in content["meta_info"]


def test_full_fine_tuning_has_no_peft_configuration(tmp_path: Path) -> None:
    final = dataclasses.replace(simulated(description())[-1], adapter={})
    assert json.loads(final.save(tmp_path).read_text())["run_info"]["peft_config"] is None

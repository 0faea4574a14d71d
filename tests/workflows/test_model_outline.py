"""A model of fake tensors against the same model with weights."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from lora_da import collect_statistics
from lora_da.loading import ModelSource
from lora_da.statistics.batches.token_rows import TokenRows
from lora_da.statistics.hooks.recorder import Recorder
from lora_da.statistics.running_sums import RunningSums
from lora_da.workflows.model_outline import model_outline
from lora_da.workflows.settings import AdapterShape


def test_layers_and_shared_inputs(folder: Path) -> None:
    outline = model_outline(ModelSource(str(folder)), AdapterShape(), 2, 7)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.ones(2, 7, dtype=torch.long)
    statistics = collect_statistics(model, [{"input_ids": ids, "labels": ids}], progress=False)
    assert outline.shapes == {name: tuple(value.shape) for name, value in statistics.gradient_sums.items()}
    assert outline.input_groups == statistics.input_groups
    assert outline.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert outline.vocabulary == model.config.vocab_size


def test_activations_are_what_autograd_keeps(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}  # no address is used twice, since autograd holds the tensors

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    outline = model_outline(ModelSource(str(folder)), AdapterShape(), 3, 11)
    recorder = Recorder({name: model.get_submodule(name) for name in outline.shapes}, RunningSums())
    ids = torch.ones(3, 11, dtype=torch.long)
    with (
        recorder.attached(),
        recorder.batch(lambda _layer, _tensor: TokenRows()),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    assert output.logits.requires_grad
    # Fake tensors can't be looked into, so that attention takes a mask and repeated keys and values along.
    assert sum(kept.values()) <= outline.activation_bytes <= 1.15 * sum(kept.values())


def test_precision_and_targets(folder: Path) -> None:
    outline = model_outline(ModelSource(str(folder), "bfloat16"), AdapterShape(target_modules="q_proj"), 1, 5)
    assert outline.model_bytes == 2 * outline.parameters
    assert [name.rsplit(".", 1)[1] for name in outline.shapes] == ["q_proj", "q_proj"]

"""Mixtures of experts with PEFT's target_parameters, from data to an adapter that plain PEFT loads."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import ParamWrapper

from lora_da import collect_statistics, initialize_lora_da_weights
from lora_da.losses import CausalLM
from models import VOCABULARY, batches_of, causal_examples, collate
from presets import PARAMETERS
from reference import distance

RANK = 2
EXPERTS = 12
TARGETS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"]
BATCHES = batches_of(causal_examples(6), 3)
CONFIG = dataclasses.replace(PARAMETERS, population_size=100)


def tiny_mixtral(implementation: str = "eager") -> Any:
    config = transformers.MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=EXPERTS,
        num_experts_per_tok=2,
        initializer_range=0.3,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(config).eval()
    model.set_experts_implementation(implementation)
    for block in model.model.layers:
        with torch.no_grad():
            block.mlp.gate.weight[-1] = 0.0
            block.mlp.gate.weight[-1, 0] = -1e3 * block.mlp.gate.weight[0, 0].sign()
    return model


def adapted(model: Any) -> PeftModel:
    torch.manual_seed(1)
    config = LoraConfig(r=RANK, lora_alpha=4, target_modules=["q_proj"], target_parameters=TARGETS, lora_dropout=0.0)
    found = get_peft_model(model, config)
    assert isinstance(found, PeftModel)
    return found


def initialized(model: PeftModel) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return initialize_lora_da_weights(model, BATCHES, CONFIG, progress=False)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_gradients_of_experts_and_router_are_autograds(implementation: str) -> None:
    model = tiny_mixtral(implementation)
    statistics = collect_statistics(adapted(model), BATCHES, CONFIG.collection, progress=False)
    plain = tiny_mixtral()
    names = [f"model.layers.{block}.{target}" for block in (0, 1) for target in TARGETS]
    weights = [plain.get_parameter(name) for name in names]
    total = [torch.zeros_like(weight) for weight in weights]
    for example in causal_examples(6):
        batch = collate([example])
        output = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
        loss = CausalLM()(output, batch).sum()
        for sum_, gradient in zip(total, torch.autograd.grad(loss, weights), strict=True):
            sum_ += gradient
    tokens = sum(int(batch["attention_mask"].sum()) for batch in BATCHES)
    for name, wanted in zip(names, total, strict=True):
        if wanted.ndim == 2:
            assert distance(statistics.gradient_sums[name], wanted) < 1e-4
            assert statistics.tokens[name] == tokens
            continue
        assert sum(statistics.tokens.get(f"{name}.{index}", 0) for index in range(EXPERTS)) == 2 * tokens
        for index in range(EXPERTS):
            if f"{name}.{index}" in statistics.tokens:
                assert distance(statistics.gradient_sums[f"{name}.{index}"], wanted[index]) < 1e-4, (name, index)
            else:
                assert not wanted[index].any()


def test_each_expert_has_its_own_start_and_others_keep_the_default(tmp_path: Path) -> None:
    model = adapted(tiny_mixtral())
    wrappers: dict[str, Any] = {
        f"{name.replace('.base_layer', '')}.{module.parameter_name}": module
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, ParamWrapper)
    }
    before = {name: module.lora_A["default"].weight.detach().clone() for name, module in wrappers.items()}
    report = initialized(model)
    kept = report.kept_default
    assert any("no token reached it" in reason for reason in kept.values())
    # Some experts receive nothing but an example's last token, which predicts nothing.
    assert all("no token reached it" in reason or "a gradient of zero" in reason for reason in kept.values())
    assert len(report.layers) + len(kept) == 2 * (1 + 1 + 2 * EXPERTS)  # q_proj, router, experts
    for name, module in wrappers.items():
        if module.num_experts == 1:
            assert report.layers[name].rank == RANK
            continue
        # What PEFT will add to each expert's weight, by its own reckoning.
        updates = module.get_delta_weight("default").detach()
        for index in range(EXPERTS):
            if f"{name}.{index}" in kept:
                own = module.lora_A["default"].weight.view(EXPERTS, RANK, -1)[index]
                assert torch.equal(own, before[name].view(EXPERTS, RANK, -1)[index])
                assert not updates[index].any()
            else:
                assert 1 <= torch.linalg.matrix_rank(updates[index]) <= RANK  # one token gives rank one
    assert report.loss_before is not None
    assert report.loss_after is not None
    assert report.loss_after < report.loss_before

    model.save_pretrained(str(tmp_path / "adapter"))
    again = PeftModel.from_pretrained(tiny_mixtral(), str(tmp_path / "adapter")).eval()
    ids = BATCHES[0]["input_ids"]
    torch.testing.assert_close(again(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


def test_passes_serve_experts_too() -> None:
    models = [adapted(tiny_mixtral()) for _ in range(2)]
    whole = initialized(models[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = initialize_lora_da_weights(models[1], BATCHES, CONFIG, memory_budget="60KB", progress=False)
    assert any("passes over the data" in notice for notice in parts.notices)
    assert parts.layers.keys() == whole.layers.keys()
    assert parts.kept_default == whole.kept_default
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=name)

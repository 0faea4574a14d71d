"""A frozen, beside the same model with A trained, by autograd and by plain PEFT."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_lorafa_optimizer
from torch import Tensor, nn

from lora_da import freeze_a, initialize_lora_da_weights
from models import (
    LLAMA_TARGETS,
    batches_of,
    causal_examples,
    collate,
    image_examples,
    tiny_gpt2,
    tiny_llama,
    tiny_vit,
    with_lora,
)
from reference import distance
from test_mixtures import TARGETS, tiny_mixtral

BATCH = collate(causal_examples(4))
A_NAMES = (".lora_A.", ".lora_embedding_A.")


def with_embedding() -> Any:
    """An adapter on the embedding too, with an A as it is after training: PEFT starts it at zero."""
    model: Any = with_lora(tiny_llama(), trained=True, target_modules=["embed_tokens", "q_proj"])
    for name, parameter in model.named_parameters():
        if "lora_embedding_A" in name:
            nn.init.normal_(parameter)
    return model


def with_convolution() -> Any:
    vit = tiny_vit()
    names = [name for name, module in vit.named_modules() if isinstance(module, nn.Conv2d)]
    return with_lora(vit, trained=True, target_modules=[*names, "classifier"])


KINDS: dict[str, Callable[[], Any]] = {
    "linear": lambda: with_lora(tiny_llama(), trained=True),
    "transposed": lambda: with_lora(tiny_gpt2(), trained=True, target_modules=["c_attn", "c_fc"]),
    "embedding": with_embedding,
    "convolution": with_convolution,
    "experts": lambda: with_lora(tiny_mixtral(), trained=True, target_modules=["q_proj"], target_parameters=TARGETS),
    "dora": lambda: with_lora(tiny_llama(), trained=True, use_dora=True),
    "saved": lambda: with_lora(tiny_llama(), trained=True, modules_to_save=["lm_head"]),
}


def gradients(model: Any, batch: Any = None) -> dict[str, Tensor]:
    model.zero_grad()
    model(**(batch or BATCH)).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def trained_names(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def is_a(name: str) -> bool:
    return any(part in name for part in A_NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_a_is_trained_with_the_same_gradients(kind: str) -> None:
    model = KINDS[kind]()
    batch = collate(image_examples(3)) if kind == "convolution" else None
    before = gradients(model, batch)
    count = freeze_a(model)
    after = gradients(model, batch)
    assert after.keys() == {name for name in before if not is_a(name)}
    assert len(after) < len(before)
    for name, gradient in after.items():
        assert torch.equal(gradient, before[name]), name
    assert count == sum(gradient.numel() for gradient in after.values()) == model.get_nb_trainable_parameters()[0]
    assert freeze_a(model) == count


class _InputsOfAdaptedLayers:
    """The storages of what adapted layers receive, and of what autograd keeps."""

    def __init__(self, model: nn.Module) -> None:
        self.inputs: dict[str, int] = {}
        self.kept: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no address is given out twice
        for name, module in model.named_modules():
            if hasattr(module, "lora_A") and "base_layer" not in name:
                module.register_forward_pre_hook(lambda _, given, name=name: self._receive(name, given[0]))

    def _receive(self, name: str, given: Tensor) -> None:
        self._alive.append(given)
        self.inputs[name] = given.untyped_storage().data_ptr()

    def _keep(self, tensor: Tensor) -> Tensor:
        self._alive.append(tensor)
        self.kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def run(self, model: Any) -> set[str]:
        """The layers whose inputs are kept for the backward pass."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            model(**BATCH)
        return {name.rpartition(".")[2] for name, storage in self.inputs.items() if storage in self.kept}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_layers_inputs_are_not_kept_for_a(dropout: float) -> None:
    """Attention keeps its own output, which o_proj receives; no other input is anyone's but A's."""
    kept, sizes = [], []
    for frozen in (False, True):
        model: Any = with_lora(tiny_llama(), lora_dropout=dropout).train()
        if frozen:
            freeze_a(model)
        observed = _InputsOfAdaptedLayers(model)
        kept.append(observed.run(model))
        sizes.append(sum(observed.kept.values()))
    assert kept[0] == (set(LLAMA_TARGETS) if not dropout else {"o_proj"})  # dropout's output in place of its input
    assert kept[1] == {"o_proj"}
    rows = BATCH["input_ids"].numel()
    widths = 2 * (16 + 16 + 24) if not dropout else 2 * (4 * 16 + 2 * 16 + 24)  # dropped out, each layer has its own
    assert sizes[0] - sizes[1] >= 4 * rows * widths


def test_peft_keeps_a_frozen_whatever_it_switches(tmp_path: Path) -> None:
    model: Any = with_lora(tiny_llama(), trained=True)
    model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    freeze_a(model)  # the active one
    frozen = trained_names(model)
    assert frozen
    assert not any(is_a(name) for name in frozen)
    with model.disable_adapter():
        pass
    assert trained_names(model) == frozen
    model.load_adapter(tmp_path, "default", is_trainable=True)  # a trainer that resumes
    assert trained_names(model) == frozen
    model.set_adapter("second")
    assert {name.split(".")[-3] for name in trained_names(model)} == {"lora_A", "lora_B"}
    model.set_adapter("default")
    assert trained_names(model) == frozen
    freeze_a(model, "second")
    model.set_adapter("second")
    assert {name.split(".")[-3] for name in trained_names(model)} == {"lora_B"}
    model.set_adapter("default")
    model.delete_adapter("second")
    assert trained_names(model) == frozen


def test_saved_and_merged_it_is_an_ordinary_adapter(tmp_path: Path) -> None:
    model: Any = with_lora(tiny_llama(), trained=True)
    freeze_a(model)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(tiny_llama(), tmp_path, is_trainable=True)
    assert any(is_a(name) for name in trained_names(again))
    with torch.no_grad():
        logits = model(**BATCH).logits
        assert torch.equal(again(**BATCH).logits, logits)
        model.merge_adapter()
        with pytest.raises(ValueError, match=r"merged into layer .*; call unmerge_adapter\(\) first"):
            freeze_a(model)
        model.unmerge_adapter()
        merged = model.merge_and_unload()
        torch.testing.assert_close(merged(**BATCH).logits, logits, rtol=1e-4, atol=1e-4)


def test_models_without_the_adapter_and_partitioned_ones() -> None:
    with pytest.raises(ValueError, match="the model has no LoRA adapter; make one"):
        freeze_a(tiny_llama())
    model: Any = with_lora(tiny_llama())
    before = trained_names(model)
    with pytest.raises(ValueError, match="no LoRA adapter named 'second'; it has default"):
        freeze_a(model, "second")
    next(model.parameters()).ds_id = 0
    with pytest.raises(ValueError, match="checkpoints of DeepSpeed's ZeRO-3 would lack A"):
        freeze_a(model)
    assert trained_names(model) == before


def test_before_the_initialisation_or_after_it() -> None:
    weights = []
    for freeze_first in (True, False):
        model: Any = with_lora(tiny_llama())
        if freeze_first:
            freeze_a(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            initialize_lora_da_weights(model, batches_of(causal_examples(12)), progress=False)
        if not freeze_first:
            freeze_a(model)
        assert not any(is_a(name) for name in trained_names(model))
        weights.append(model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_an_embeddings_zero_a_is_warned_of() -> None:
    model: Any = with_lora(tiny_llama(), target_modules=["embed_tokens", "q_proj"])
    with pytest.warns(UserWarning, match=r"A is zero in 1 layers, the first model\.embed_tokens, which learn nothing"):
        freeze_a(model)
    assert not any(is_a(name) for name in trained_names(model))


def test_of_a_tied_adapter_the_linear_layers_a_is_frozen() -> None:
    config = LoraConfig(r=2, target_modules=["embed_tokens", "lm_head"], ensure_weight_tying=True)
    model: Any = get_peft_model(tiny_llama(tie_word_embeddings=True), config)
    freeze_a(model)
    assert {name.split(".")[-3 if name.endswith("weight") else -2] for name in trained_names(model)} == {
        "lora_embedding_A",
        "lora_B",
    }
    head = model.get_base_model().lm_head
    start = head.lora_A["default"].weight.detach().clone()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    gradients(model)
    optimizer.step()
    assert torch.equal(head.lora_A["default"].weight, start)
    assert bool(head.lora_B["default"].weight.any())


def test_an_optimizer_that_has_a_already_leaves_it() -> None:
    model: Any = with_lora(tiny_llama(), trained=True)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    gradients(model)
    freeze_a(model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, start[name]) == (".lora_B." not in name), name


def test_pefts_lora_fa_optimizer_trains_the_same_with_the_call_and_without() -> None:
    """Its step is Adam's with B's gradient times (A Aᵀ)⁻¹ / s², whatever scale A was initialised with."""
    model: Any = with_lora(tiny_llama(), use_rslora=True, rank_pattern={"down_proj": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        initialize_lora_da_weights(model, batches_of(causal_examples(12)), progress=False)
    other = copy.deepcopy(model)
    freeze_a(model)
    starts = {name: value.clone() for name, value in model.state_dict().items()}
    for each in (model, other):
        optimizer: Any = create_lorafa_optimizer(each, r=4, lora_alpha=8, lr=1e-2)
        found = gradients(each)
        optimizer.step()
        layer = each.get_base_model().model.layers[1].mlp.down_proj
        A, scaling = layer.lora_A["default"].weight.double(), layer.scaling["default"]
        name = next(name for name in found if "layers.1.mlp.down_proj.lora_B" in name)
        wanted = found[name].double() @ torch.linalg.inv(A @ A.T) / scaling**2
        first_moment = optimizer.state[name[: name.index("lora")] + "lora"]["exp_avg_B"]
        assert distance(first_moment.double(), 0.1 * wanted) < 0.02  # PEFT multiplies in bfloat16
        for _ in range(3):
            gradients(each)
            optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
        assert torch.equal(value, starts[name]) == (".lora_B." not in name), name

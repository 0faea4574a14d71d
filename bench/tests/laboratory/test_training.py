from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from laboratory.data.test_examples import classified
from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.training import measure_examples, start_adapter, train_adapter
from lora_da_bench.methods.adapters import find_factors
from models import VOCABULARY, tiny_bert, tiny_llama
from oracles import randn

BLOCKS = torch.randint(3, VOCABULARY, (12, 6), generator=torch.Generator().manual_seed(0))
EXAMPLES = Examples(BLOCKS, torch.ones_like(BLOCKS))


@pytest.fixture
def model() -> Any:
    return get_peft_model(tiny_llama(), LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"))


def copies(model: Any) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: (A.detach().clone(), B.detach().clone()) for name, (A, B) in find_factors(model).items()}


@pytest.mark.parametrize("train_a", [False, True])
def test_only_what_is_trained_moves(model: Any, train_a: bool) -> None:
    weights = copy.deepcopy([p for name, p in model.named_parameters() if "lora_" not in name])
    start = {name: randn(0, *A.shape).float() for name, (A, _) in find_factors(model).items()}
    start_adapter(model, start, 0, train_a=train_a)
    assert all(torch.equal(A, start[name]) and not B.any() for name, (A, B) in copies(model).items())
    assert train_adapter(model, EXAMPLES, 4, 1e-2) is not None
    for name, (A, B) in copies(model).items():
        assert torch.equal(A, start[name]) is not train_a
        assert B.any()
    after = [p for name, p in model.named_parameters() if "lora_" not in name]
    assert all(map(torch.equal, weights, after))


def test_a_new_start_leaves_nothing_of_the_last_run(model: Any) -> None:
    fresh = get_peft_model(tiny_llama(), LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"))
    for other in (model, fresh):
        start_adapter(other, None, 7, train_a=True)
    first = copies(model)
    train_adapter(model, EXAMPLES, 4, 1e-2)
    start_adapter(model, None, 7, train_a=False)
    for found in (copies(model), copies(fresh)):
        assert all(torch.equal(A, first[name][0]) and not B.any() for name, (A, B) in found.items())
    bound = next(A for A, _ in first.values()).abs().max() * next(A for A, _ in first.values()).shape[1] ** 0.5
    assert 0.5 < float(bound) <= 1.0  # uniform up to 1/√d_in


def test_training_is_adamw_at_a_constant_rate(model: Any) -> None:
    """The same steps by the model's own loss and plain AdamW."""
    start_adapter(model, None, 0, train_a=True)
    other = copy.deepcopy(model)
    found = train_adapter(model, EXAMPLES, 4, 1e-2)
    optimizer = torch.optim.AdamW([p for p in other.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    losses = []
    for batch in BLOCKS.split(4):
        loss = other(input_ids=batch, labels=batch).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert found == pytest.approx(sum(losses) / 3, rel=1e-5)
    for (_, mine), (_, theirs) in zip(copies(model).items(), copies(other).items(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_a_head_has_its_own_rate_and_start() -> None:
    """Each step moves what Adam moves by the rate, at first; the head by its own, and back for the next run."""
    base, examples = tiny_bert(), classified(4)
    model: Any = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS"))
    before = copy.deepcopy(base.classifier.original_module.state_dict())
    head = base.classifier.modules_to_save["default"]
    for rate in (1e-2, 3e-2):
        start_adapter(model, None, 0, train_a=False)
        assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())
        train_adapter(model, examples, 4, rate)
        assert float((head.weight - before["weight"]).detach().abs().max()) == pytest.approx(1e-3, rel=1e-2)
        assert max(float(B.abs().max()) for _, B in copies(model).values()) == pytest.approx(rate, rel=1e-2)
    assert all(torch.equal(t, before[name]) for name, t in base.classifier.original_module.state_dict().items())


def test_blocks_are_measured_one_by_one(model: Any) -> None:
    expected = [model(input_ids=block[None], labels=block[None]).loss.item() for block in BLOCKS]
    assert measure_examples(model, EXAMPLES, batch_size=5) == pytest.approx(expected, rel=1e-4)


def test_a_run_that_diverges_ends(model: Any) -> None:
    start_adapter(model, None, 0, train_a=True)
    assert train_adapter(model, EXAMPLES, 4, 1e30) is None

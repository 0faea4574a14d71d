"""A trainer's own loss, taken apart into the examples', or refused by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lora_da import collect_statistics
from lora_da.losses import DPO, RewardPairs
from lora_da.pipeline.trainer_loss import TrainerFunction, find_trainer_loss
from models import causal_examples, classified_examples, collate, tiny_bert, tiny_llama
from reference import assert_gradients_agree, loss_of


def divided(output: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """A weighted loss as the trainer's documentation has it."""
    losses = F.cross_entropy(output.logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none")
    return 3 * losses.sum() / torch.as_tensor(num_items_in_batch)


def averaged(output: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    return F.cross_entropy(output.logits, labels, label_smoothing=0.1)


def coupled(output: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    return F.cross_entropy(output.logits - output.logits.mean(0), labels)


def token_mean(output: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    return F.cross_entropy(output.logits[:, :-1].transpose(1, 2), labels[:, 1:])


def test_a_sum_over_the_batch() -> None:
    model, examples = tiny_llama(), causal_examples(4)
    found = collect_statistics(model, [collate(examples)], example_loss=TrainerFunction(divided), progress=False)
    assert_gradients_agree(
        found,
        model,
        lambda model: [
            3 * loss_of(model(input_ids=e["input_ids"][None]).logits[0], e["labels"], "causal", "sum") for e in examples
        ],
    )


def test_a_mean_of_one_label_an_example() -> None:
    model, examples = tiny_bert(), classified_examples(4)
    found = collect_statistics(model, [collate(examples)], example_loss=TrainerFunction(averaged), progress=False)
    assert_gradients_agree(
        found,
        model,
        lambda model: [
            F.cross_entropy(model(input_ids=e["input_ids"][None]).logits[0], e["labels"], label_smoothing=0.1)
            for e in examples
        ],
    )


@pytest.mark.parametrize(
    ("function", "model", "examples"),
    [(coupled, tiny_bert, classified_examples(4)), (token_mean, tiny_llama, causal_examples(4))],
)
def test_what_the_examples_do_not_make_up(function: Any, model: Any, examples: Any) -> None:
    with pytest.raises(ValueError, match=r"its own \(compute_loss_func: .* for a batch is neither.*give example_loss"):
        collect_statistics(model(), [collate(examples)], example_loss=TrainerFunction(function), progress=False)


def made(module: str, **args: Any) -> Any:
    """Stands for a trainer whose loss comes from a module."""

    def compute_loss() -> None: ...

    compute_loss.__module__ = module
    kind = type("SomeTrainer", (), {"compute_loss": compute_loss})
    trainer = kind()
    trainer.args = SimpleNamespace(**args)
    return trainer


def test_trainers_that_are_known() -> None:
    assert find_trainer_loss(made("transformers.trainer")) is None
    rewards = made("trl.trainer.reward_trainer", center_rewards_coefficient=0.2)
    assert find_trainer_loss(rewards) == RewardPairs(centring=0.2)
    plain: dict[str, Any] = {"beta": 0.3, "loss_type": ["sigmoid"], "f_divergence_type": "reverse_kl", "ld_alpha": None}
    assert find_trainer_loss(made("trl.trainer.dpo_trainer", **plain)) == DPO(0.3)
    with pytest.raises(ValueError, match=r"its own \(DPO with loss_type=\['hinge'\], .*give example_loss"):
        find_trainer_loss(made("trl.trainer.dpo_trainer", **plain | {"loss_type": ["hinge"]}))
    with pytest.raises(ValueError, match=r"its own \(SomeTrainer.compute_loss\)"):
        find_trainer_loss(made("somewhere.else"))

"""Pairs, against autograd with one unpadded answer at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lora_da import collect_statistics, initialize_lora_da_weights
from lora_da.losses import DPO, RewardPairs
from models import VOCABULARY, causal_examples, collate, tiny_llama, with_lora
from presets import PARAMETERS
from reference import assert_gradients_agree, loss_of

CHOSEN, REJECTED = causal_examples(5, seed=1), causal_examples(5, seed=2)
REWARDS = {"num_labels": 1}


def pairs(*numbers: int) -> dict[str, Tensor]:
    return collate([*(CHOSEN[n] for n in numbers), *(REJECTED[n] for n in numbers)])


def marked(*numbers: int) -> dict[str, Tensor]:
    """As TRL's collator has it."""
    batch = pairs(*numbers)
    return batch | {"completion_mask": (batch.pop("labels") != -100).long()}


def log_probability(model: Any, example: dict[str, Tensor]) -> Tensor:
    return -loss_of(model(input_ids=example["input_ids"][None]).logits[0], example["labels"], "causal", "sum")


def margins(model: Any, count: int = 5) -> list[Tensor]:
    return [log_probability(model, CHOSEN[n]) - log_probability(model, REJECTED[n]) for n in range(count)]


@pytest.mark.parametrize("batch_of", [pairs, marked])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_dpo_starts_from_its_reference(batch_of: Any, smoothing: float) -> None:
    model, loss = tiny_llama(), DPO(beta=0.3, label_smoothing=smoothing)
    found = collect_statistics(model, [batch_of(0, 1), batch_of(2, 3, 4)], example_loss=loss, progress=False)

    def losses(model: Any) -> list[Tensor]:
        changes = [0.3 * (margin - margin.detach()) for margin in margins(model)]
        return [-(1 - smoothing) * F.logsigmoid(x) - smoothing * F.logsigmoid(-x) for x in changes]

    assert_gradients_agree(found, model, losses)


def test_dpo_with_a_reference_of_its_own() -> None:
    model, batch, reference = tiny_llama(), pairs(0, 1, 2, 3, 4), tiny_llama(seed=1).double()
    wanted = [log_probability(reference, example).detach() for example in CHOSEN + REJECTED]
    batch |= {"ref_chosen_logps": torch.stack(wanted[:5]), "ref_rejected_logps": torch.stack(wanted[5:])}
    found = collect_statistics(model, [batch], example_loss=DPO(), progress=False)
    differences = [chosen - rejected for chosen, rejected in zip(wanted[:5], wanted[5:], strict=True)]
    assert_gradients_agree(
        found,
        model,
        lambda model: [-F.logsigmoid(0.1 * (m - d)) for m, d in zip(margins(model), differences, strict=True)],
    )


def test_the_loss_with_the_adapter_is_against_the_base() -> None:
    model = with_lora(tiny_llama())
    batches = [marked(0, 1, 2), marked(3, 4)]
    report = initialize_lora_da_weights(model, batches, PARAMETERS, example_loss=DPO(), progress=False)
    assert report.loss_before == pytest.approx(0.6931472)
    model.eval()
    after = margins(model)
    with model.disable_adapter():
        before = margins(model)
    wanted = [-F.logsigmoid(0.1 * (one - other)) for one, other in zip(after, before, strict=True)]
    assert report.loss_after == pytest.approx(float(torch.stack(wanted).mean().detach()), rel=1e-4)
    assert report.loss_after < 0.69  # type: ignore[operator]
    assert "ref_chosen_logps" not in batches[0]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5])
def test_a_pair_is_one_example_and_never_parted(most: int) -> None:
    batches = [pairs(0, 1, 2), pairs(3, 4)]
    found = collect_statistics(tiny_llama(), batches, example_loss=DPO(), max_examples=most, progress=False)
    wanted = collect_statistics(tiny_llama(), [pairs(*range(most))], example_loss=DPO(), progress=False)
    assert found.examples == wanted.examples == most
    for name, gradient in wanted.gradient_sums.items():
        torch.testing.assert_close(found.gradient_sums[name], gradient, rtol=1e-4, atol=1e-6)


def reward_model() -> Any:
    import transformers

    config = tiny_llama().config.to_dict() | REWARDS
    torch.manual_seed(0)
    return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**config)).eval()


@pytest.mark.parametrize("margin", [None, [0.5, 0.0, 1.0, 0.2, 0.1]])
def test_rewards(margin: list[float] | None) -> None:
    model, batch = reward_model(), pairs(0, 1, 2, 3, 4)
    del batch["labels"]
    if margin is not None:
        batch["margin"] = torch.tensor(margin)
    found = collect_statistics(model, [batch], example_loss=RewardPairs(centring=0.1), progress=False)

    def losses(model: Any) -> list[Tensor]:
        losses = []
        for n in range(5):
            chosen, rejected = (model(input_ids=part[n]["input_ids"][None]).logits[0, 0] for part in (CHOSEN, REJECTED))
            difference = chosen - rejected - (margin[n] if margin else 0)
            losses.append(-torch.log(torch.sigmoid(difference)) + 0.1 * (chosen + rejected) ** 2)
        return losses

    assert_gradients_agree(found, model, losses)


def test_what_is_no_pair() -> None:
    with pytest.raises(ValueError, match="3 rows are no pairs: give all chosen answers first"):
        RewardPairs()(SimpleNamespace(logits=torch.zeros(3, 1)), {})
    with pytest.raises(ValueError, match=r"are no rewards, one a row: make the model with num_labels=1"):
        RewardPairs()(SimpleNamespace(logits=torch.zeros(4, 2)), {})
    with pytest.raises(ValueError, match="a batch of 3 rows has no whole number of examples of 2 rows"):
        collect_statistics(tiny_llama(), [collate(CHOSEN[:3])], example_loss=DPO(), progress=False)
    assert VOCABULARY > 0

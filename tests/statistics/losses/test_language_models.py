from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lora_da.losses import CausalLM, MaskedLM, SequenceToSequence, TokenClassification
from reference import loss_of


def losses(loss: Any, logits: Tensor, labels: Tensor) -> Tensor:
    found: Tensor = loss(SimpleNamespace(logits=logits), {"labels": labels})
    return found


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(
    ("kind", "task"),
    [(CausalLM, "causal"), (SequenceToSequence, "translation"), (MaskedLM, "translation")],
)
def test_token_losses_are_those_of_a_loop(kind: Any, task: str, reduction: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (3, 5), generator=generator)
    labels[0, 2:4] = -100
    labels[1, 0] = -100
    wanted = [loss_of(row, label, task, reduction) for row, label in zip(logits, labels, strict=True)]
    torch.testing.assert_close(losses(kind(reduction), logits, labels), torch.stack(wanted), rtol=1e-14, atol=0)
    tokens = [loss_of(row, label, task, "sum") for row, label in zip(logits, labels, strict=True)]
    count = (labels[:, 1:] if task == "causal" else labels).ne(-100).sum()
    mean = kind(reduction).mean(SimpleNamespace(logits=logits), {"labels": labels})
    torch.testing.assert_close(mean, torch.stack(tokens).sum() / count, rtol=1e-14, atol=0)


def test_a_loss_by_hand() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = math.log(3.0)  # probabilities 1/6, 1/6, 3/6, 1/6
    labels = torch.tensor([[-100, 2, 0]])
    assert float(losses(CausalLM(), logits, labels)) == pytest.approx(math.log(2) + math.log(4))
    assert float(losses(CausalLM("mean"), logits, labels)) == pytest.approx(math.log(8) / 2)


def test_rows_before_the_text_have_no_label_and_predict_none() -> None:
    logits, labels = torch.randn(2, 7, 5), torch.randint(5, (2, 4))
    found = losses(CausalLM(text_last=True), logits, labels)
    torch.testing.assert_close(found, losses(CausalLM(), logits[:, 3:], labels))
    with pytest.raises(ValueError, match="don't belong together"):
        losses(CausalLM(), logits, labels)


def test_losses_of_half_precision_logits_are_float32() -> None:
    assert losses(CausalLM(), torch.randn(2, 4, 5).half(), torch.randint(5, (2, 4))).dtype == torch.float32


def test_nan_logits_without_a_label_do_not_matter() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 2] = torch.nan
    assert float(losses(CausalLM(), logits, torch.tensor([[1, 1, 1]]))) == pytest.approx(2 * math.log(4))


def test_a_random_mask_may_hide_nothing_of_an_example() -> None:
    logits, labels = torch.randn(2, 3, 4), torch.tensor([[-100, 1, -100], [-100, -100, -100]])
    found = losses(MaskedLM(), logits, labels)
    assert found.tolist() == [pytest.approx(-float(logits[0, 1].log_softmax(-1)[1])), 0.0]
    with pytest.raises(ValueError, match=r"no label token in example\(s\) \[1\]"):
        losses(TokenClassification(), logits, labels)


def test_shapes_that_do_not_belong_together() -> None:
    for logits, labels in (
        (torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long)),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long)),
    ):
        with pytest.raises(ValueError, match="don't belong together"):
            losses(CausalLM(), logits, labels)
    with pytest.raises(ValueError, match=r"no logits, but \['states'\]: give example_loss"):
        CausalLM()({"states": torch.zeros(1)}, {"labels": torch.zeros(1, 1)})

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lora_da.statistics.losses.alignment import find_alignment
from lora_da.statistics.losses.example_losses import compute_example_losses
from models import tiny_llama
from reference import loss_of


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(("alignment", "task"), [("shifted", "causal"), ("aligned", "translation")])
def test_token_losses_are_those_of_a_loop(alignment: Any, task: str, reduction: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (3, 5), generator=generator)
    labels[0, 2:4] = -100
    labels[1, 0] = -100
    losses = compute_example_losses(logits, labels, alignment, reduction)
    wanted = [loss_of(row, label, task, reduction) for row, label in zip(logits, labels, strict=True)]
    torch.testing.assert_close(losses, torch.stack(wanted), rtol=1e-14, atol=0)


def test_a_loss_by_hand() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = math.log(3.0)  # probabilities 1/6, 1/6, 3/6, 1/6
    labels = torch.tensor([[-100, 2, 0]])
    assert float(compute_example_losses(logits, labels, "shifted", "sum")) == pytest.approx(math.log(2) + math.log(4))
    assert float(compute_example_losses(logits, labels, "shifted", "mean")) == pytest.approx(math.log(8) / 2)


def test_losses_of_half_precision_logits_are_float32() -> None:
    logits = torch.randn(2, 4, 5).half()
    losses = compute_example_losses(logits, torch.randint(5, (2, 4)), "shifted", "sum")
    assert losses.dtype == torch.float32


def test_nan_logits_without_a_label_do_not_matter() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 2] = torch.nan
    assert float(compute_example_losses(logits, torch.tensor([[1, 1, 1]]), "shifted", "sum")) == pytest.approx(
        2 * math.log(4)
    )


def test_examples_without_a_label_are_named() -> None:
    labels = torch.tensor([[-100, 1, 1], [1, -100, -100], [-100, -100, -100]])
    with pytest.raises(ValueError, match=r"no label token in example\(s\) \[1, 2\].*which nothing predicts"):
        compute_example_losses(torch.zeros(3, 3, 4), labels, "shifted", "sum")
    with pytest.raises(ValueError, match=r"no label token in example\(s\) \[2\] of the batch: every label is -100\. "):
        compute_example_losses(torch.zeros(3, 3, 4), labels, "aligned", "sum")


def test_shapes_that_do_not_belong_together() -> None:
    for logits, labels, alignment in (
        (torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long), "shifted"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long), "aligned"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), "example"),
        (torch.zeros(2, 3), torch.zeros(2, 2), "example"),
    ):
        with pytest.raises(ValueError, match="don't belong together"):
            compute_example_losses(logits, labels, alignment, "sum")  # type: ignore[arg-type]


def test_the_models_own_mean_loss_agrees_for_one_example() -> None:
    model = tiny_llama()
    tokens = torch.randint(3, 30, (1, 6))
    output = model(input_ids=tokens, labels=tokens)
    found = compute_example_losses(output.logits, tokens, find_alignment(model), "mean")
    torch.testing.assert_close(found[0], output.loss)

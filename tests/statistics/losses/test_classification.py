from __future__ import annotations

import math

import pytest
import torch

from lora_da.statistics.losses.classification import compute_classification_losses


def test_classification_and_its_column_of_labels() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    wanted = torch.tensor([math.log(4 / 3), math.log(2)])
    for labels in (torch.tensor([1, 0]), torch.tensor([[1], [0]])):
        torch.testing.assert_close(compute_classification_losses(logits, labels), wanted)
    with pytest.raises(ValueError, match=r"no label in example\(s\) \[1\]"):
        compute_classification_losses(logits, torch.tensor([1, -100]))


def test_regression_is_half_the_square() -> None:
    losses = compute_classification_losses(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(losses, torch.tensor([0.5, 4.5]))


def test_several_labels_an_example() -> None:
    logits, labels = torch.randn(3, 4), torch.randint(2, (3, 4)).float()
    probabilities = torch.sigmoid(logits)
    wanted = -(labels * probabilities.log() + (1 - labels) * (1 - probabilities).log()).sum(1)
    torch.testing.assert_close(compute_classification_losses(logits, labels), wanted)

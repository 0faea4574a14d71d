from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lora_da.losses import Classification, MultiLabel, Regression


def losses(loss: Any, logits: Tensor, labels: Tensor) -> Tensor:
    found: Tensor = loss(SimpleNamespace(logits=logits), {"labels": labels})
    return found


def test_classification_and_its_column_of_labels() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    wanted = torch.tensor([math.log(4 / 3), math.log(2)])
    for labels in (torch.tensor([1, 0]), torch.tensor([[1], [0]])):
        torch.testing.assert_close(losses(Classification(), logits, labels), wanted)
    with pytest.raises(ValueError, match=r"no label in example\(s\) \[1\]"):
        losses(Classification(), logits, torch.tensor([1, -100]))
    for labels in (torch.tensor([[1, 0], [0, 1]]), torch.tensor([1.0, 0.0])):
        with pytest.raises(ValueError, match=r"no index of one class an example: .*problem_type"):
            losses(Classification(), logits, labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.long])
def test_regression_is_half_the_square(dtype: torch.dtype) -> None:
    for labels in (torch.tensor([2, 0]), torch.tensor([[2], [0]])):
        found = losses(Regression(), torch.tensor([[1.0], [3.0]]), labels.to(dtype))
        torch.testing.assert_close(found, torch.tensor([0.5, 4.5]))
    found = losses(Regression(), torch.tensor([[1.0, 2.0]]), torch.tensor([[0, 0]]).to(dtype))
    torch.testing.assert_close(found, torch.tensor([2.5]))
    with pytest.raises(ValueError, match="don't belong together"):
        losses(Regression(), torch.zeros(2, 3), torch.zeros(2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.long])
def test_several_labels_an_example(dtype: torch.dtype) -> None:
    logits, labels = torch.randn(3, 4), torch.randint(2, (3, 4)).to(dtype)
    probabilities = torch.sigmoid(logits)
    wanted = -(labels * probabilities.log() + (1 - labels) * (1 - probabilities).log()).sum(1)
    torch.testing.assert_close(losses(MultiLabel(), logits, labels), wanted)
    with pytest.raises(ValueError, match=r"must be zeros and ones: .*\"regression\""):
        losses(MultiLabel(), logits, labels - 0.5)


def test_shapes_that_do_not_belong_together() -> None:
    for logits, labels in ((torch.zeros(2, 3), torch.zeros(3)), (torch.zeros(2, 3, 4), torch.zeros(2))):
        with pytest.raises(ValueError, match="don't belong together"):
            losses(Classification(), logits, labels)

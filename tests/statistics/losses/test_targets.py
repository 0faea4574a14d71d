from __future__ import annotations

import pytest
import torch

from lora_da.statistics.losses.targets import find_predicting_positions, find_targets


def test_predicting_positions() -> None:
    labels = torch.tensor([[-100, -100, 5, 6], [7, -100, 8, -100]])
    shifted = [[False, True, True, False], [False, True, False, False]]
    assert find_predicting_positions(labels, "shifted").tolist() == shifted
    assert find_predicting_positions(labels, "aligned").tolist() == (labels != -100).tolist()


def test_examples_without_a_label_are_named() -> None:
    labels = torch.tensor([[-100, 1, 1], [1, -100, -100], [-100, -100, -100]])
    with pytest.raises(ValueError, match=r"no label token in example\(s\) \[1, 2\].*which nothing predicts"):
        find_targets(labels, "shifted")
    with pytest.raises(ValueError, match=r"no label token in example\(s\) \[2\] of the batch: every label is -100\. "):
        find_targets(labels, "aligned")


def test_an_example_may_have_no_label_where_masks_are_random() -> None:
    labels = torch.tensor([[-100, 1, 1], [-100, -100, -100]])
    targets = find_targets(labels, "aligned", every_example=False)
    assert targets.counts.tolist() == [2, 0]
    for reduction, wanted in (("sum", [5.0, 0.0]), ("mean", [2.5, 0.0])):
        assert targets.by_example(torch.tensor([2.0, 3.0]), reduction).tolist() == wanted  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no label token in example\(s\) \[0\]"):
        find_targets(labels[1:], "aligned", every_example=False)

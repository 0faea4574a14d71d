from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from lora_da.statistics.losses.alignment import label_alignment, predicting_positions
from lora_da.statistics.losses.example_losses import example_losses
from models import tiny_bert, tiny_gpt2, tiny_llama, tiny_opt, tiny_t5, tiny_vit
from reference import loss_of


@pytest.mark.parametrize(
    ("make", "alignment"),
    [
        (tiny_llama, "shifted"),
        (tiny_gpt2, "shifted"),
        (tiny_opt, "shifted"),
        (tiny_t5, "aligned"),
        (tiny_bert, "example"),
        (tiny_vit, "example"),
    ],
)
def test_alignment_by_architecture(make: Any, alignment: str) -> None:
    assert label_alignment(make()) == alignment


def test_alignment_of_masked_and_token_models() -> None:
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    assert label_alignment(transformers.BertForMaskedLM(config)) == "aligned"
    assert label_alignment(transformers.BertForTokenClassification(config)) == "aligned"
    with pytest.raises(ValueError, match=r"the loss of BertForQuestionAnswering is not known.*Give example_loss"):
        label_alignment(transformers.BertForQuestionAnswering(config))
    with pytest.raises(ValueError, match="the loss of Linear is not known"):
        label_alignment(nn.Linear(2, 2))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(("alignment", "task"), [("shifted", "causal"), ("aligned", "translation")])
def test_token_losses_are_those_of_a_loop(alignment: Any, task: str, reduction: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (3, 5), generator=generator)
    labels[0, 2:4] = -100
    labels[1, 0] = -100
    losses = example_losses(logits, labels, alignment, reduction)
    wanted = [loss_of(row, label, task, reduction) for row, label in zip(logits, labels, strict=True)]
    torch.testing.assert_close(losses, torch.stack(wanted), rtol=1e-14, atol=0)


def test_a_loss_by_hand() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = math.log(3.0)  # probabilities 1/6, 1/6, 3/6, 1/6
    labels = torch.tensor([[-100, 2, 0]])
    assert float(example_losses(logits, labels, "shifted", "sum")) == pytest.approx(math.log(2) + math.log(4))
    assert float(example_losses(logits, labels, "shifted", "mean")) == pytest.approx(math.log(8) / 2)


def test_losses_of_half_precision_logits_are_float32() -> None:
    logits = torch.randn(2, 4, 5).half()
    losses = example_losses(logits, torch.randint(5, (2, 4)), "shifted", "sum")
    assert losses.dtype == torch.float32


def test_nan_logits_without_a_label_do_not_matter() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 2] = torch.nan
    assert float(example_losses(logits, torch.tensor([[1, 1, 1]]), "shifted", "sum")) == pytest.approx(2 * math.log(4))


def test_examples_without_a_label_are_named() -> None:
    labels = torch.tensor([[-100, 1, 1], [1, -100, -100], [-100, -100, -100]])
    with pytest.raises(ValueError, match=r"no label token in example\(s\) \[1, 2\].*which nothing predicts"):
        example_losses(torch.zeros(3, 3, 4), labels, "shifted", "sum")
    with pytest.raises(ValueError, match=r"no label token in example\(s\) \[2\] of the batch: every label is -100\. "):
        example_losses(torch.zeros(3, 3, 4), labels, "aligned", "sum")


def test_shapes_that_do_not_belong_together() -> None:
    for logits, labels, alignment in (
        (torch.zeros(2, 3, 4), torch.zeros(2, 4, dtype=torch.long), "shifted"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.long), "aligned"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), "example"),
        (torch.zeros(2, 3), torch.zeros(2, 2), "example"),
    ):
        with pytest.raises(ValueError, match="don't belong together"):
            example_losses(logits, labels, alignment, "sum")  # type: ignore[arg-type]


def test_classification_and_its_column_of_labels() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    wanted = torch.tensor([math.log(4 / 3), math.log(2)])
    for labels in (torch.tensor([1, 0]), torch.tensor([[1], [0]])):
        torch.testing.assert_close(example_losses(logits, labels, "example", "mean"), wanted)
    with pytest.raises(ValueError, match=r"no label in example\(s\) \[1\]"):
        example_losses(logits, torch.tensor([1, -100]), "example", "sum")


def test_regression_is_half_the_square() -> None:
    losses = example_losses(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 0.0]), "example", "sum")
    torch.testing.assert_close(losses, torch.tensor([0.5, 4.5]))


def test_several_labels_an_example() -> None:
    logits, labels = torch.randn(3, 4), torch.randint(2, (3, 4)).float()
    probabilities = torch.sigmoid(logits)
    wanted = -(labels * probabilities.log() + (1 - labels) * (1 - probabilities).log()).sum(1)
    torch.testing.assert_close(example_losses(logits, labels, "example", "mean"), wanted)


def test_predicting_positions() -> None:
    labels = torch.tensor([[-100, -100, 5, 6], [7, -100, 8, -100]])
    shifted = [[False, True, True, False], [False, True, False, False]]
    assert predicting_positions(labels, "shifted").tolist() == shifted
    assert predicting_positions(labels, "aligned").tolist() == (labels != -100).tolist()


def test_the_models_own_mean_loss_agrees_for_one_example() -> None:
    model = tiny_llama()
    tokens = torch.randint(3, 30, (1, 6))
    output = model(input_ids=tokens, labels=tokens)
    found = example_losses(output.logits, tokens, label_alignment(model), "mean")
    torch.testing.assert_close(found[0], output.loss)

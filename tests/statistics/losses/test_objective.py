"""What is asked of a loss of one's own, and what a batch of it may hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from lora_da import collect_statistics
from lora_da.losses import CausalLM, MaskedLM, MultipleChoice, QuestionAnswering
from models import VOCABULARY, batches_of, causal_examples, classified_examples, collate, tiny_bert, tiny_llama
from reference import assert_gradients_agree, distance, loss_of

BATCHES = batches_of(classified_examples(6), 4)


def by_row(output: Any, batch: Any) -> Tensor:
    return F.cross_entropy(output.logits, batch["labels"], reduction="none")


def by_pair(output: Any, batch: Any) -> Tensor:
    first, second = by_row(output, batch).chunk(2)
    return first + second


def test_the_given_loss_is_the_one_that_is_found() -> None:
    for model, batches, loss in (
        (tiny_bert(), BATCHES, by_row),
        (tiny_llama(), batches_of(causal_examples(6)), CausalLM()),
    ):
        found = collect_statistics(model, batches, progress=False)
        given = collect_statistics(model, batches, example_loss=loss, progress=False)
        assert given.loss_sum == pytest.approx(found.loss_sum)
        assert max(distance(given.gradient_sums[name], found.gradient_sums[name]) for name in found.layers) < 1e-6


def test_losses_that_are_none_of_the_examples() -> None:
    cases: Any = (
        (lambda output, batch: by_row(output, batch).sum(), r"must return one loss an example, \(B,\), not \(\)"),
        (lambda output, batch: list(by_row(output, batch)), r"must return one loss an example, \(B,\), not a list"),
        (lambda output, batch: by_row(output, batch)[:3], "returned 3 losses of a batch of 4 rows: it must return one"),
    )
    for loss, why in cases:
        with pytest.raises(ValueError, match=why):
            collect_statistics(tiny_bert(), BATCHES, example_loss=loss, progress=False)


def test_how_many_rows_belong_together_is_asked_where_it_matters() -> None:
    """Without a limit, the losses tell it; with one, a function that does not say so is taken for one of rows."""
    found = collect_statistics(tiny_bert(), BATCHES, example_loss=by_pair, progress=False)
    assert found.examples == 3
    for limit in (4, 6):
        with pytest.raises(ValueError, match=r"max_examples counted 4 as examples.*attribute rows_per_example"):
            collect_statistics(tiny_bert(), BATCHES, example_loss=by_pair, max_examples=limit, progress=False)
    for limit in (1, 5):
        with pytest.raises(ValueError, match=rf"max_examples={limit} ends within batch .* the function's attribute"):
            collect_statistics(tiny_bert(), BATCHES, example_loss=by_pair, max_examples=limit, progress=False)
    by_pair.rows_per_example = 2  # type: ignore[attr-defined]
    try:
        cut = collect_statistics(tiny_bert(), BATCHES, example_loss=by_pair, max_examples=1, progress=False)
    finally:
        del by_pair.rows_per_example  # type: ignore[attr-defined]
    first = {name: value[[0, 2]] for name, value in BATCHES[0].items()}
    wanted = collect_statistics(tiny_bert(), [first], example_loss=by_row, progress=False)
    assert cut.examples == 1
    assert max(distance(cut.gradient_sums[name], wanted.gradient_sums[name]) for name in wanted.layers) < 1e-5


def test_a_masked_language_model_with_masks_at_random() -> None:
    """Of short texts some masks hide nothing; those examples count all the same."""
    model = transformers.BertForMaskedLM(tiny_bert().config).eval()
    examples, generator = causal_examples(8), torch.Generator().manual_seed(4)
    for example in examples:
        masked = torch.rand(example["input_ids"].shape, generator=generator) < 0.2
        example["labels"] = example["input_ids"].masked_fill(~masked, -100)
        example["input_ids"] = example["input_ids"].masked_fill(masked, VOCABULARY - 1)
    assert any(bool((example["labels"] == -100).all()) for example in examples)
    for loss in (None, MaskedLM()):
        found = collect_statistics(model, [collate(examples)], example_loss=loss, progress=False)

        def losses(model: Any) -> list[Tensor]:
            labelled = [e for e in examples if bool((e["labels"] != -100).any())]
            own = [loss_of(model(e["input_ids"][None]).logits[0], e["labels"], "aligned", "sum") for e in labelled]
            return own + [torch.zeros(())] * (len(examples) - len(labelled))

        assert_gradients_agree(found, model, losses)


def test_question_answering() -> None:
    """Its softmax runs over padding, whose gradients count."""
    model = transformers.BertForQuestionAnswering(tiny_bert(labels=2).config).eval()
    batch = collate(causal_examples(4)) | {"start_positions": torch.tensor([0, 1, 0, 1])}
    batch["end_positions"] = batch["start_positions"] + 1
    del batch["labels"]
    for loss in (None, QuestionAnswering()):
        found = collect_statistics(model, [batch], example_loss=loss, progress=False)
        assert_gradients_agree(found, model, lambda model: [4 * 2 * model(**batch).loss] + [torch.zeros(())] * 3)


def test_multiple_choice() -> None:
    model = transformers.BertForMultipleChoice(tiny_bert().config).eval()
    batch = {"input_ids": torch.randint(3, VOCABULARY, (4, 3, 5)), "labels": torch.tensor([0, 2, 1, 1])}
    for loss in (None, MultipleChoice()):
        found = collect_statistics(model, [batch], example_loss=loss, progress=False)
        assert_gradients_agree(found, model, lambda model: [4 * model(**batch).loss] + [torch.zeros(())] * 3)

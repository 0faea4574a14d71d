"""A student and its teacher, against autograd with one unpadded example at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lora_da import collect_statistics
from lora_da.losses import Classification, Distillation
from models import causal_examples, classified_examples, collate, tiny_bert, tiny_llama
from reference import assert_gradients_agree, loss_of


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    p, q = (torch.softmax(logits.double() / temperature, -1) for logits in (teacher.detach(), student))
    return temperature**2 * (p * (p.log() - q.log())).sum()


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("given", [False, True])
def test_token_by_token(given: bool, share: float) -> None:
    student, teacher, examples = tiny_llama(), tiny_llama(seed=1), causal_examples(4)
    batch = collate(examples)
    loss = Distillation(None if given else teacher, temperature=3.0, share=share)
    if given:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        batch["teacher_logits"] = teacher(**inputs).logits.detach()
    found = collect_statistics(student, [batch], example_loss=loss, progress=False)
    exact = tiny_llama(seed=1).double()

    def losses(model: Any) -> list[Tensor]:
        values = []
        for example in examples:
            own, wanted = (one(input_ids=example["input_ids"][None]).logits[0] for one in (model, exact))
            places = [t for t in range(len(own) - 1) if example["labels"][t + 1] != -100]
            taught = sum((divergence(own[t], wanted[t], 3.0) for t in places), torch.zeros(()))
            values.append(share * taught + (1 - share) * loss_of(own, example["labels"], "causal", "sum"))
        return values

    assert_gradients_agree(found, student, losses)


def test_classes() -> None:
    student, teacher, examples = tiny_bert(), tiny_bert(seed=1), classified_examples(4)
    loss = Distillation(teacher, labels=Classification())
    found = collect_statistics(student, [collate(examples)], example_loss=loss, progress=False)
    exact = tiny_bert(seed=1).double()

    def losses(model: Any) -> list[Tensor]:
        pairs = [[one(input_ids=e["input_ids"][None]).logits[0] for one in (model, exact)] for e in examples]
        return [divergence(own, wanted, 2.0) for own, wanted in pairs]

    assert_gradients_agree(found, student, losses)


def test_what_is_refused() -> None:
    batch = collate(causal_examples(2))

    def refused(message: str, loss: Distillation) -> None:
        with pytest.raises(ValueError, match=message):
            collect_statistics(tiny_llama(), [batch], example_loss=loss, progress=False)

    refused("the teacher is in training mode", Distillation(tiny_llama().train()))
    refused("both need one vocabulary", Distillation(tiny_llama(vocab_size=40)))
    refused(r"Distillation has no teacher, and the batch no teacher_logits; its keys are", Distillation())

"""The loss that is found for a model, against what the model itself computes from the same batch."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from families.catalogue import FAMILIES
from families.family import Family
from lora_da.losses import CausalLM, Classification, MaskedLM, MultiLabel, Regression, SequenceToSequence
from lora_da.statistics.losses.objective import Objective
from lora_da.statistics.losses.recognition import find_loss
from models import Positionwise, causal_examples, collate, positionwise, tiny_bert, tiny_llama, tiny_t5, tiny_vit

CPU = torch.device("cpu")
OWN = [family for family in FAMILIES if family.example_loss is None and family.own_loss is None and not family.wrap]
QUICK = ("BERT", "XLNet", "XLM", "GPT-2", "GIT", "Mixtral")


def own_loss(model: nn.Module, batch: dict[str, Any]) -> float:
    with torch.no_grad():
        return float(model(**batch).loss)


def found_mean(model: nn.Module, batch: dict[str, Any]) -> float:
    """The mean of the loss that is found, from logits that the model gives without labels."""
    loss = find_loss(model, model, batch, CPU, "sum")
    with torch.no_grad():
        return float(loss.mean(model(**Objective(model, loss).prepare(batch)), batch))


def check(family: Family) -> None:
    model, batch = family.model(), family.batch_of(family.examples([6] * 4), "right")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found_mean(model, batch) == pytest.approx(own_loss(model, batch), rel=1e-5)


@pytest.mark.parametrize("family", [f for f in OWN if f.name in QUICK], ids=lambda f: f.key)
def test_it_equals_the_models_own(family: Family) -> None:
    check(family)


@pytest.mark.slow
def test_it_equals_the_own_loss_of_every_causal_language_model_that_can_be_made_small() -> None:
    found, wrong = [], []
    classes: list[tuple[Any, Any]] = list(MODEL_FOR_CAUSAL_LM_MAPPING.items())
    for config_class, model_class in classes:
        try:
            model = small(config_class, model_class)
            batch = collate(causal_examples(2, longest=8))
            wanted = own_loss(model, batch)
        except Exception:  # it needs other settings, or other inputs
            continue
        if not torch.isfinite(torch.tensor(wanted)):
            continue
        try:
            if found_mean(model, batch) == pytest.approx(wanted, rel=1e-4):
                found.append(model_class.__name__)
            else:
                wrong.append(model_class.__name__)
        except ValueError:  # refused by name
            continue
    assert not wrong
    assert len(found) > 80, found


def small(config_class: Any, model_class: Any) -> nn.Module:
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0, "max_position_embeddings": 64}
    others = {"d_model": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "d_inner": 24, "ffn_dim": 24, "d_ff": 24}
    more = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "is_decoder": True, "d_kv": 8}
    config = config_class(**sizes | heads | others | more | {"emb_dim": 16, "n_layers": 2, "n_heads": 2})
    with torch.device("meta"):
        if sum(parameter.numel() for parameter in model_class(config).parameters()) > 10**6:
            raise ValueError("not small")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(std=0.2)
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "batch", "kind"),
    [
        (tiny_llama, collate(causal_examples(2)), CausalLM),
        (positionwise, collate(causal_examples(2)), CausalLM),  # computes no loss, and is taken at its word
        (tiny_t5, {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([[6, 7]])}, SequenceToSequence),
        (tiny_bert, {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([1])}, Classification),
        (lambda: transformers.BertForMaskedLM(tiny_bert().config), collate(causal_examples(2)), MaskedLM),
        (tiny_vit, {"pixel_values": torch.randn(2, 1, 8, 8), "labels": torch.tensor([1, 0])}, Classification),
    ],
)
def test_kinds(make: Any, batch: dict[str, Tensor], kind: type) -> None:
    assert type(find_loss(make(), make(), batch, CPU, "sum")) is kind


@pytest.mark.parametrize(
    ("problem", "classes", "labels", "kind"),
    [
        (None, 1, torch.tensor([0.5]), Regression),
        (None, 1, torch.tensor([3]), Regression),
        (None, 3, torch.tensor([2]), Classification),
        (None, 3, torch.tensor([[1.0, 0.0, 1.0]]), MultiLabel),
        ("regression", 3, torch.tensor([[0.5, -1.0, 2.0]]), Regression),
        ("multi_label_classification", 1, torch.tensor([[1.0]]), MultiLabel),
        ("multi_label_classification", 3, torch.tensor([[1, 0, 1]]), MultiLabel),
        ("single_label_classification", 3, torch.tensor([1]), Classification),
    ],
)
def test_classifiers_as_transformers_has_them(problem: Any, classes: int, labels: Tensor, kind: type) -> None:
    model = tiny_bert(labels=classes)
    model.config.problem_type = problem
    batch = {"input_ids": torch.tensor([[3, 4, 5]]), "labels": labels}
    assert type(find_loss(model, model, batch, CPU, "sum")) is kind
    assert model.config.problem_type == problem
    if problem is not None or labels.is_floating_point():
        labels = labels.float() if kind is not Classification else labels
        assert found_mean(model, batch) == pytest.approx(own_loss(model, batch | {"labels": labels}), rel=1e-5)


class Weighted(Positionwise):
    """Its own loss is another than its class names."""

    def forward(self, input_ids: Tensor, attention_mask: Any = None, labels: Any = None) -> Any:
        output = super().forward(input_ids)
        if labels is not None:
            weights = torch.linspace(0, 1, output.logits.shape[-1])
            output["loss"] = nn.functional.cross_entropy(output.logits.transpose(1, 2), labels, weights)
        return output


class Balanced(Positionwise):
    """Its own loss holds a part that the labels don't move, and is aligned, whatever its class names."""

    def forward(self, input_ids: Tensor, attention_mask: Any = None, labels: Any = None) -> Any:
        output = super().forward(input_ids)
        if labels is not None:
            output["loss"] = 7 + nn.functional.cross_entropy(output.logits.transpose(1, 2), labels)
        return output


def test_the_own_loss_decides() -> None:
    batch = collate(causal_examples(2))
    assert find_loss(Balanced(), Balanced(), batch, CPU, "mean").alignment == "aligned"  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"loss of Weighted is not known: its own for logits .* is none of CausalLM"):
        find_loss(Weighted(), Weighted(), batch, CPU, "sum")


def test_what_is_not_known() -> None:
    config = tiny_bert().config
    batch = {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([1])}
    model = transformers.BertModel(config)
    with pytest.raises(ValueError, match=r"output has no logits, but .*give example_loss"):
        find_loss(model, model, batch, CPU, "sum")
    model = tiny_bert()
    model.config.problem_type = "ranking"
    with pytest.raises(ValueError, match="problem_type 'ranking' is none of regression"):
        find_loss(model, model, batch, CPU, "sum")

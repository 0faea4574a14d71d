"""In-batch negatives, against autograd with one unpadded text at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from lora_da import collect_statistics
from lora_da.losses import Contrastive
from models import causal_examples, collate, tiny_bert, tiny_llama
from reference import assert_gradients_agree

QUERIES, PASSAGES = causal_examples(4, seed=1), causal_examples(4, seed=2)


def embedder() -> Any:
    torch.manual_seed(0)
    return transformers.BertModel(tiny_bert().config, add_pooling_layer=False).eval()


def batch() -> dict[str, Tensor]:
    made = collate([*QUERIES, *PASSAGES])
    del made["labels"]
    return made


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_are_autograds(pooling: Any, symmetric: bool) -> None:
    model, loss = embedder(), Contrastive(temperature=0.2, pooling=pooling, symmetric=symmetric)
    found = collect_statistics(model, [batch()], example_loss=loss, progress=False)

    def losses(model: Any) -> list[Tensor]:
        states = [model(input_ids=text["input_ids"][None]).last_hidden_state[0] for text in QUERIES + PASSAGES]
        pooled = [{"mean": one.mean(0), "first": one[0], "last": one[-1]}[pooling] for one in states]
        texts = [F.normalize(one, dim=0) for one in pooled]
        products = torch.stack([torch.stack([query @ passage for passage in texts[4:]]) for query in texts[:4]]) / 0.2
        rows, columns = products.log_softmax(1).diag(), products.log_softmax(0).diag()
        return list(-(rows + columns) / 2 if symmetric else -rows)

    assert_gradients_agree(found, model, losses)
    assert found.batch_dependent


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_examples=3 ends within batch 0.*losses depends on all of them.*=4,"):
        collect_statistics(embedder(), [batch()], example_loss=Contrastive(), max_examples=3, progress=False)
    with pytest.raises(ValueError, match="no last_hidden_state"):
        collect_statistics(tiny_llama(), [batch()], example_loss=Contrastive(), progress=False)
    with pytest.raises(ValueError, match="positive temperature"):
        Contrastive(temperature=0)

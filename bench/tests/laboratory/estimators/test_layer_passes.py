from __future__ import annotations

from typing import Any

import pytest
import torch

from laboratory.data.test_examples import classified
from lora_da_bench.laboratory.estimators.layer_passes import see_layers
from models import classified_examples, tiny_bert

LAYERS = ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.output.dense", "bert.pooler.dense"]


def test_gradients_of_padded_texts_are_autograds_own() -> None:
    """The gradient of each weight by each example, from the text alone without padding."""
    model, examples = tiny_bert(), classified(5)
    frozen = tiny_bert().requires_grad_(False)
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in LAYERS}
    for batch in see_layers(frozen, LAYERS, examples, batch_size=3):
        for name, (a, g) in batch.items():
            seen[name] += list(g.mT @ a)
    for index, row in enumerate(classified_examples(5)):
        model.zero_grad()
        model(input_ids=row["input_ids"][None], labels=row["labels"][None]).loss.backward()
        for name in LAYERS:
            expected = model.get_submodule(name).weight.grad.double()
            torch.testing.assert_close(seen[name][index], expected, rtol=1e-3, atol=1e-5)


def test_layers_that_cannot_be_told_apart() -> None:
    model: Any = tiny_bert()
    model.bert.encoder.layer[1].output.dense = model.bert.encoder.layer[0].output.dense
    with pytest.raises(ValueError, match=r"bert.encoder.layer.0.output.dense is called twice"):
        next(see_layers(model, ["bert.encoder.layer.0.output.dense"], classified()))
    model.unused = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="unused is not called"):
        next(see_layers(model, ["unused"], classified()))
    assert not any(module._forward_hooks for module in model.modules())

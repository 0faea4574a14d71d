from __future__ import annotations

import torch

from laboratory.data.test_examples import classified
from lora_da_bench.laboratory.head import fit_head, head_names
from models import tiny_bert, tiny_llama


def test_the_head_alone_is_drawn_and_fitted() -> None:
    """Whatever it was before; from the seed; and so that its examples' loss is lower than without it."""
    examples = classified(16)
    first, second, other = tiny_bert(), tiny_bert(), tiny_bert()
    with torch.no_grad():
        second.classifier.weight.fill_(7.0)
    for model, seed in ((first, 3), (second, 3), (other, 4)):
        fit_head(model, examples, seed)
    before = tiny_bert().state_dict()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
        assert torch.equal(tensor, before[name]) is not name.startswith("classifier.")
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    features = tiny_bert().bert(**{k: v for k, v in examples.batch().items() if k != "labels"}).pooler_output
    drawn = torch.nn.Linear(16, 3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn.reset_parameters()
    assert examples.classes is not None
    assert examples.losses(first).mean() < torch.nn.functional.cross_entropy(drawn(features), examples.classes)


def test_what_is_outside_the_body() -> None:
    assert head_names(tiny_bert()) == ["dropout", "classifier"]
    assert head_names(tiny_llama()) == ["lm_head"]

"""EVA by PEFT: what it finds, at equal rank, and that it ends."""

from __future__ import annotations

import pytest
import torch

from lora_da_bench.methods import eva
from methods.setups import adapted_names, initialised, inputs_of, layers_in, setup_of, single_examples


def _captured(A: torch.Tensor, rows: torch.Tensor) -> tuple[float, float]:
    """The variance of some rows in the span of A, and the most that a span of its rank can have."""
    centred = rows - rows.mean(0)
    found = float((centred @ torch.linalg.qr(A.T)[0]).square().sum())
    return found, float(torch.linalg.svdvals(centred)[: len(A)].square().sum())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_eva_finds_the_principal_components_of_the_labelled_inputs(kind: str) -> None:
    setup = setup_of(kind)
    names = adapted_names(setup)
    inputs = {name: inputs_of(setup, name) for name in names}
    model = initialised("eva", setup)
    labels = [example["labels"][0] for example in single_examples(setup)]
    for name, layer in layers_in(model).items():
        assert not layer.B.any()
        rows = [row[label != -100] for row, label in zip(inputs[name], labels, strict=True)]
        found, best = _captured(layer.A, torch.cat(rows))
        assert found > 0.93 * best  # it stops before it has converged to the last digit
        assert _captured(torch.randn_like(layer.A), torch.cat(rows))[0] < 0.8 * best  # or this test can't fail
    assert model.peft_config["default"].rank_pattern == {}


def test_eva_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT alone would go on for ever."""
    monkeypatch.setattr(eva, "_MOST_PASSES", 1)
    with pytest.raises(ValueError, match="not converged in 1 passes"):
        initialised("eva", setup_of())


@pytest.mark.parametrize("name", ["eva", "corda"])
def test_classifiers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="serves language models alone"):
        initialised(name, setup_of("bert"))

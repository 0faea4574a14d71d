"""EVA by PEFT: what it finds, at equal rank, and that it ends."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lora_da_bench.methods import eva
from methods.setups import KINDS, RANK, adapted_names, initialised, inputs_of, layers_in, setup_of, single_examples


def _captured(A: torch.Tensor, rows: torch.Tensor) -> tuple[float, float]:
    """The variance of some rows in the span of A, and the most that a span of its rank can have."""
    centred = rows - rows.mean(0)
    found = float((centred @ torch.linalg.qr(A.T)[0]).square().sum())
    return found, float(torch.linalg.svdvals(centred)[: len(A)].square().sum())


@pytest.mark.parametrize("kind", KINDS)
def test_eva_finds_the_principal_components_of_the_labelled_inputs(kind: str) -> None:
    setup = setup_of(kind)
    names = adapted_names(setup)
    inputs = {name: inputs_of(setup, name) for name in names}
    model = initialised("eva", setup)
    labels = [example["labels"][0] for example in single_examples(setup)]
    for name, layer in layers_in(model).items():
        assert not layer.B.any()
        rows = inputs[name]
        if kind != "bert":
            rows = [row[label != -100] for row, label in zip(rows, labels, strict=True)]
        found, best = _captured(layer.A, torch.cat(rows))
        assert found > 0.93 * best  # it stops before it has converged to the last digit
        assert _captured(torch.randn_like(layer.A), torch.cat(rows))[0] < 0.8 * best  # or this test can't fail
    assert model.peft_config["default"].rank_pattern == {}


def test_eva_waits_where_a_batch_has_fewer_labels_than_components() -> None:
    """PEFT alone would skip every batch, for ever."""
    setup = setup_of()
    short = []
    for batch in setup.batches:
        last = batch["attention_mask"].sum(1) - 1
        only_last = torch.full_like(batch["labels"], -100)
        only_last[range(len(last)), last] = batch["labels"][range(len(last)), last]
        half = len(last) // 2
        labelled = dict(batch) | {"labels": only_last}
        short += [{k: v[:half] for k, v in labelled.items()}, {k: v[half:] for k, v in labelled.items()}]
    setup = dataclasses.replace(setup, batches=short)
    assert all(int((batch["labels"] != -100).sum()) < RANK for batch in short)
    names = adapted_names(setup)
    rows = {name: torch.cat([row[-1:] for row in inputs_of(setup, name)]) for name in names}
    for name, layer in layers_in(initialised("eva", setup)).items():
        found, best = _captured(layer.A, rows[name])
        assert found > 0.9 * best


def test_eva_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eva, "_MOST_PASSES", 1)
    with pytest.raises(ValueError, match="not converged in 1 passes"):
        initialised("eva", setup_of())

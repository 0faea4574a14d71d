"""PEFT's own methods do what their papers say, at equal rank, and are refused where they would not."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest
import torch

from lora_da_bench.methods.eva import _forward
from methods.setups import (
    KINDS,
    RANK,
    adapted_names,
    base_weights,
    initialised,
    inputs_of,
    layers_in,
    setup_of,
    single_examples,
    top_part,
)


def test_lora_and_gaussian_are_pefts() -> None:
    for layer in layers_in(initialised("lora", setup_of())).values():
        assert layer.A.abs().max() <= layer.A.shape[1] ** -0.5  # Kaiming-uniform with a = √5
        assert not layer.B.any()
    A = torch.cat([layer.A.flatten() for layer in layers_in(initialised("gaussian", setup_of())).values()])
    assert abs(float(A.std()) - 1 / RANK) < 0.02
    for layer in layers_in(initialised("orthogonal", setup_of())).values():
        assert layer.A.any()
        assert layer.B.any()
        assert (layer.B @ layer.A).abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_pissa_takes_the_principal_part(kind: str) -> None:
    setup = setup_of(kind)
    before = base_weights(setup, adapted_names(setup))
    for name, layer in layers_in(initialised("pissa", setup)).items():
        torch.testing.assert_close(layer.s * layer.B @ layer.A, top_part(before[name], RANK), rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.W + layer.s * layer.B @ layer.A, before[name], rtol=0, atol=1e-6)


def test_olora_takes_the_beginning_of_qr() -> None:
    setup = setup_of("bert")
    before = base_weights(setup, adapted_names(setup))
    for name, layer in layers_in(initialised("olora", setup)).items():
        torch.testing.assert_close(layer.B.T @ layer.B, torch.eye(RANK, dtype=torch.float64), rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.B.T @ before[name], layer.A, rtol=0, atol=1e-5)
        assert not layer.A.tril(-1).any()
    with pytest.raises(ValueError, match="Conv1D"):
        initialised("olora", setup_of("gpt2"))


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


def test_eva_gives_up() -> None:
    forward = _forward(2)
    model: Any = lambda **_: "called"  # noqa: E731
    assert [forward(model, {}), forward(model, {})] == ["called", "called"]
    with pytest.raises(ValueError, match="not converged"):
        forward(model, {})


@pytest.mark.parametrize("kind", KINDS)
def test_corda_takes_the_part_that_the_covariance_weighs_most(kind: str) -> None:
    pytest.importorskip("attr")
    setup = setup_of(kind)
    names = adapted_names(setup)
    before = base_weights(setup, names)
    inputs = {name: inputs_of(setup, name) for name in names}
    for name, layer in layers_in(initialised("corda", setup)).items():
        scaled = [rows / rows.max().abs() for rows in inputs[name]]  # as PEFT has it
        C = torch.stack([rows.T @ rows for rows in scaled]).mean(0)
        C += 0.01 * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype)
        wanted = top_part(before[name] @ C, RANK) @ torch.linalg.inv(C)
        difference = torch.linalg.matrix_norm(layer.s * layer.B @ layer.A - wanted)
        assert difference < 1e-2 * torch.linalg.matrix_norm(wanted), name


def test_corda_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "attr", None)
    monkeypatch.delitem(sys.modules, "peft.tuners.lora.corda", raising=False)
    with pytest.raises(ModuleNotFoundError, match="pip install attrs"):
        initialised("corda", setup_of())

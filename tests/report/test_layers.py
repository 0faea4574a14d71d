from __future__ import annotations

import dataclasses

import pytest

from lora_da.report.layers import HEADER, LayerReport, group_by_kind, kind_of, tabulate_layers


def layer(rank: int = 2, energy: float = 0.5, negative: int = 1, tokens: float = 3.0) -> LayerReport:
    return LayerReport(
        rank=rank,
        scaling=1.0,
        tokens=12,
        tokens_per_input_dimension=tokens,
        eigenvalues=tuple(-1.0 if index < negative else 1.0 for index in range(rank)),
        negative_eigenvalues=negative,
        captured_energy=(energy / 2, energy),
        delta_norm=1.5,
        input_damping=0.1,
        output_damping=0.2,
        damping_raised=0,
        residual=1e-12,
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.layers.11.mlp.up_proj", "mlp.up_proj"),
        ("0.attn", "attn"),
        ("classifier", "classifier"),
        ("encoder.block.2.layer.0.SelfAttention.q", "SelfAttention.q"),
        ("model.layers.0.experts.7.w1", "w1"),
        ("model.layers.0.mlp.experts.gate_up_proj.7", "mlp.experts.gate_up_proj"),
    ],
)
def test_a_kind_is_a_name_without_the_numbers_of_blocks(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_layers_of_a_kind_are_taken_together() -> None:
    layers = {"h.0.q": layer(rank=1), "h.0.up": layer(rank=2), "h.1.q": layer(rank=3)}
    assert {kind: [one.rank for one in group] for kind, group in group_by_kind(layers).items()} == {
        "q": [1, 3],
        "up": [2],
    }


def test_rows_take_layers_of_a_kind_together() -> None:
    layers = {
        "h.0.q": layer(energy=0.2, tokens=1.0),
        "h.1.q": layer(energy=0.4, tokens=2.0),
        "h.2.q": layer(rank=4, energy=0.9, tokens=30.0, negative=0),
        "h.0.up": layer(),
    }
    header, q, up = tabulate_layers(layers, gains=False)
    assert header == HEADER
    assert q == ("q", "3", "2–4", "2", "2/8", "40.0%", "–")
    assert up[:3] == ("up", "1", "2")


def test_gains_are_shares_of_those_of_the_rank() -> None:
    one = dataclasses.replace(layer(), eigenvalues=(-3.0, -1.0, -100.0), noise_ratios=(2.0, 0.5, 0.1))
    other = dataclasses.replace(one, eigenvalues=(-1.0, -1.0, -100.0))
    _, q, up = tabulate_layers({"h.0.q": one, "h.1.q": one, "h.0.up": other}, gains=True)
    assert q[4:] == ("2/4", "50.0%", "80%")
    assert up[-1] == "20%"

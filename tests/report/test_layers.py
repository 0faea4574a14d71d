from __future__ import annotations

import pytest

from lora_da.report.layers import group_by_kind, kind_of
from report.test_table import layer


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

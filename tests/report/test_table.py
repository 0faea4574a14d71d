from __future__ import annotations

from lora_da.report.layers import LayerReport
from lora_da.report.table import HEADER, tabulate_layers


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


def test_rows_take_layers_of_a_kind_together() -> None:
    layers = {
        "h.0.q": layer(energy=0.2, tokens=1.0),
        "h.1.q": layer(energy=0.4, tokens=2.0),
        "h.2.q": layer(rank=4, energy=0.9, tokens=30.0, negative=0),
        "h.0.up": layer(),
    }
    header, q, up = tabulate_layers(layers)
    assert header == HEADER
    assert q == ("q", "3", "2–4", "2", "40.0%", "2/8", "1.5", "0.1")
    assert up[:3] == ("up", "1", "2")

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest

from lora_da import InitializationReport, LoraDAConfig
from lora_da.report.findings import describe_gain, describe_rank, judge_data, judge_stability, list_findings
from lora_da.report.layers import LayerReport
from report.test_layers import layer


def seen(*ratios: float, tokens: float = 3.0) -> LayerReport:
    return dataclasses.replace(layer(rank=len(ratios), tokens=tokens), noise_ratios=ratios)


@pytest.mark.parametrize(
    ("layers", "level", "words"),
    [
        ([seen(3.0, 2.0), seen(1.5, 0.5)], "good", "3 of the 4 directions taken stand above the noise of 64 examples"),
        ([seen(3.0, 0.9), seen(0.8, 0.5)], "fair", "1 layer has none"),
        ([seen(3.0, 2.0), seen(3.0, 2.0, tokens=0.3)], "fair", "4 times as many examples"),
        ([seen(0.9), seen(0.2)], "poor", "0 of the 2 directions"),
        ([layer(), layer(tokens=7.0)], "good", "the layers saw 3 to 7 tokens per input dimension"),
    ],
)
def test_the_verdict_on_the_data(layers: list[LayerReport], level: str, words: str) -> None:
    verdict = judge_data({str(index): one for index, one in enumerate(layers)}, 64)
    assert verdict.level == level
    assert words in verdict.text


def test_a_rank_is_judged_by_the_next_direction() -> None:
    pays = dataclasses.replace(layer(energy=0.4), eigenvalues=(-3.0, -2.0, -1.0))
    costs = dataclasses.replace(layer(energy=0.8), eigenvalues=(-3.0, -2.0, 1.0))
    assert "In 1 of 1 layers" in describe_rank({"a": pays}, by_noise=True).text
    text = describe_rank({"a": pays, "b": costs, "c": costs}, by_noise=True).text
    assert "keeps 80% of what the data ask for (median of the layers; 40% to 80%)" in text
    assert "In 1 of 3 layers the next direction is expected to pay as well: a larger rank adds mostly noise" in text
    text = describe_rank({"a": pays, "b": costs}, by_noise=True).text
    assert "In 1 of 2 layers the next direction is expected to pay as well: about half of the layers would gain" in text


def test_gains_are_told_in_nats_only_where_the_loss_has_as_many() -> None:
    big = dataclasses.replace(layer(), eigenvalues=(-200.0, -100.0, -50.0))
    small = dataclasses.replace(layer(), eigenvalues=(-60.0, -40.0, -30.0))
    text = describe_gain({"h.0.up": big, "h.0.q": small}, 500.0, 10.0).text
    assert "most lies in up (75%), least in q (25%)" in text
    assert "Together 40 nats per token, each layer as if the others stood still" in text
    assert "Together 300 nats per example" in describe_gain({"h.0.up": big}, 1000.0, None).text
    absurd = describe_gain({"h.0.up": big, "h.0.q": small}, 399.0, 10.0).text
    assert "most lies in up (75%)" in absurd
    assert "400" not in absurd
    assert "can't be told" in absurd


@pytest.mark.parametrize(("scale", "words"), [("searched", "start with LoRA's own"), ("stable", "sweep it")])
def test_a_learning_rate_is_named_where_there_is_evidence(scale: Literal["searched", "stable"], words: str) -> None:
    config = LoraDAConfig(init_scale=scale)
    report = InitializationReport({"a": seen(2.0)}, {}, 4, None, 6.0, 8.0, {}, None, False, (), config, 2.0, 0.0)
    found = {one.topic: one for one in list_findings(report)}
    assert words in found["rate"].text
    assert found["loss"].text.startswith("3.0000 before, 4.0000 with the adapter")
    assert found["loss"].level == "poor"
    assert found["step"].text.startswith("none; lora_B is zero")
    assert "not measured" in found["stability"].text


@pytest.mark.parametrize(
    ("overlaps", "level", "words"),
    [
        ([0.9, 0.5, 0.6, None], "good", "share 60% of their subspaces (median of 3 layers; 50% to 90%); by chance it"),
        ([0.1, 0.4], "fair", "by chance it would be 12.5%. More or longer examples"),
    ],
)
def test_halves_tell_how_stable_the_subspaces_are(overlaps: list[float | None], level: str, words: str) -> None:
    layers = [dataclasses.replace(seen(2.0), half_overlap=overlap, shape=(4, 8)) for overlap in overlaps]
    found = judge_stability({str(index): one for index, one in enumerate(layers)})
    assert found.level == level
    assert words in found.text

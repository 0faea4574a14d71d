"""What an initialisation found, in the words of someone who fine-tunes: a verdict first, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from lora_da.report.layers import LayerReport, group_by_kind, round_gain

if TYPE_CHECKING:
    from lora_da.report.initialization import InitializationReport

_STABLE = 0.5  # of a subspace, on which halves of a sample agree: then most of it is not chance

Level = Literal["good", "fair", "poor", "plain"]
"""How a finding should be taken; plain is neither."""


@dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes:
        topic: What it is about, one of "data", "rank", "gain", "loss", "step", "rate" or "stability".
        title: In a few words.
        text: In a sentence or two.
        level: How it should be taken.
    """

    topic: str
    title: str
    text: str
    level: Level = "plain"

    def __str__(self) -> str:
        return f"{self.title}: {self.text}"


def list_findings(report: InitializationReport) -> list[Finding]:
    """Return what is known of an initialisation, the verdict on its data first."""
    layers = report.layers
    if not layers:
        return []
    found = [judge_data(layers, report.examples), describe_rank(layers, by_noise=report.in_nats)]
    if report.in_nats:
        found.append(describe_gain(layers, report.loss_before, report.label_tokens))
    return [*found, *_start(report), _rate(report), judge_stability(layers)]


def judge_data(layers: Mapping[str, LayerReport], examples: int) -> Finding:
    """Return whether there were enough examples.

    By rule of thumb: at least half of the directions taken stand above the noise, and each layer saw as many tokens as
    it has input dimensions, so that the data decide and not the damping.
    """
    tokens = [layer.tokens_per_input_dimension for layer in layers.values()]
    few = sum(value < 1 for value in tokens)
    sentences = [f"the layers saw {_span(tokens, '.3g')} tokens per input dimension."]
    known = [(layer.real_directions, layer.rank) for layer in layers.values() if layer.real_directions is not None]
    real, taken = sum(real for real, _ in known), sum(rank for _, rank in known)
    if known:
        noise = f"{real:,} of the {taken:,} directions taken stand above the noise of {examples:,} examples, and "
        sentences[0] = noise + sentences[0]
    without = sum(real == 0 for real, _ in known)
    if without:
        sentences.append(f"{count_of(without)} none: the data say nothing certain about {_them(without)}.")
    if few:
        times = math.ceil(1 / max(min(tokens), 1e-9))
        sentences.append(
            f"{count_of(few)} fewer tokens than dimensions, where damping decides much: {times} times as many examples "
            "would give each dimension one."
        )
    if known and real == 0:
        return Finding("data", "Too little data", " ".join(sentences) + " Use more or longer examples.", "poor")
    if few or real < taken / 2:
        return Finding("data", "More data would help", " ".join(sentences), "fair")
    return Finding("data", "Enough data", " ".join(sentences), "good")


def judge_stability(layers: Mapping[str, LayerReport]) -> Finding:
    """Return how far two halves of the examples, each by itself, would have led to the same subspaces."""
    known = [layer for layer in layers.values() if layer.shape is not None]
    overlaps = [layer.half_overlap for layer in known if layer.half_overlap is not None]
    if not overlaps:
        text = "not measured: the examples came in one batch, or there was no memory left for it."
        return Finding("stability", "Stability", text)
    chance = median(layer.rank / layer.shape[1] for layer in known if layer.shape is not None)
    text = (
        f"two halves of the examples, each by itself, share {median(overlaps):.0%} of their subspaces (median of "
        f"{len(overlaps)} layers; {_span(overlaps, '.0%')}); by chance it would be {chance:.1%}."
    )
    if median(overlaps) < _STABLE:
        return Finding("stability", "Not yet stable", text + " More or longer examples make it steadier.", "fair")
    return Finding("stability", "Stable", text, "good")


def describe_rank(layers: Mapping[str, LayerReport], *, by_noise: bool) -> Finding:
    """Return what the rank keeps of what the data ask for, and whether a larger one has more to take."""
    kept = [layer.captured_energy[-1] for layer in layers.values()]
    ranks = sorted({layer.rank for layer in layers.values()})
    name = f"Rank {ranks[0]}" if len(ranks) == 1 else f"Ranks {ranks[0]} to {ranks[-1]}"
    text = f"keeps {median(kept):.0%} of what the data ask for (median of the layers; {_span(kept, '.0%')})."
    nexts = [layer.eigenvalues[layer.rank] for layer in layers.values() if len(layer.eigenvalues) > layer.rank]
    if by_noise and nexts:
        more = sum(value < 0 for value in nexts)
        text += f" In {more} of {len(nexts)} layers the next direction is expected to pay as well"
        if more > 0.6 * len(nexts):
            text += ": a larger rank has more to take."
        elif more < 0.4 * len(nexts):
            text += ": a larger rank adds mostly noise."
        else:
            text += ": about half of the layers would gain from a larger rank (--rank auto gives it to them)."
    return Finding("rank", name, text)


def describe_gain(layers: Mapping[str, LayerReport], loss: float | None, label_tokens: float | None) -> Finding:
    """Return where most of the expected decrease of the loss lies, and how large it is.

    Args:
        layers: The layers, in the metric of the loss.
        loss: That of the examples without the adapter, in nats per example.
        label_tokens: See :class:`lora_da.report.initialization.InitializationReport`.
    """
    gains = {kind: -sum(layer.expected_change for layer in group) for kind, group in group_by_kind(layers).items()}
    total, text = sum(gains.values()), ""
    if total > 0 and len(gains) > 1:
        best, least = max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__)
        text = f"most lies in {best} ({gains[best] / total:.0%}), least in {least} ({gains[least] / total:.0%}). "
    per, gain = ("example", total) if label_tokens in (None, 1) else ("token", total / (label_tokens or 1))
    if loss is None or total <= loss:
        text += f"Together {round_gain(gain)} nats per {per}, each layer as if the others stood still."
    else:  # the layers share what there is to gain, and the Fisher information is no curvature
        text += (
            "How much in nats can't be told: each layer is taken as if the others stood still. Compare layers by it."
        )
    return Finding("gain", "Expected gain", text)


def _start(report: InitializationReport) -> Iterator[Finding]:
    """What the start does to the loss, as far as it was measured, and how far the first step goes."""
    unit, per_example = report.label_tokens or 1.0, report.label_tokens is None
    before, after = report.loss_before, report.loss_after
    if before is not None:
        title = "Loss per example" if per_example else "Loss per token"
        text = f"{before / unit:.4f} before" + ("" if after is None else f", {after / unit:.4f} with the adapter")
        risen = after is not None and not after <= before
        yield Finding("loss", title, f"{text}, in nats, on the examples themselves.", "poor" if risen else "plain")
    if report.step_length is not None:
        text = f"B takes {report.step_length:.2g} of the second-order step, what lowers a few examples' loss most."
        if report.step_length == 0:
            text = "none; lora_B is zero, and training starts from the base model itself."
        yield Finding("step", "First step", text)


def _rate(report: InitializationReport) -> Finding:
    """What learning rate to begin with; no more than docs/laboratory.md and the README have measured."""
    if report.config.init_scale in ("searched", "zero"):
        text = "start with LoRA's own, and try a third of it as well."
    else:
        text = f'the scale "{report.config.init_scale}" moves it away from LoRA\'s: sweep it.'
    return Finding("rate", "Learning rate", text)


def count_of(layers: int) -> str:
    """Return so many layers as the subject of a sentence, with its verb."""
    return "1 layer has" if layers == 1 else f"{layers:,} layers have"


def _them(layers: int) -> str:
    return "it" if layers == 1 else "them"


def _span(values: list[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"

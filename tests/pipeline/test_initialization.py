"""What is written to an adapter, what is not, and what is said of it."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_da import InitializationReport, LoraDAConfig, Statistics, collect_statistics, initialize_lora_da_weights
from lora_da.adapter.layers import find_adapted_layers
from lora_da.pipeline.initialization import Passes, Stopwatch, open_adapter, solve_adapter, write_solution
from models import batches_of, causal_examples, tiny_llama, with_lora
from presets import PARAMETERS, PRESETS
from reference import distance

EXAMPLES = causal_examples(12)
BATCHES = batches_of(EXAMPLES)


def initialized(
    model: Any, data: Any = None, config: LoraDAConfig = PARAMETERS, **options: Any
) -> InitializationReport:
    """With warnings off, since few examples always warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return initialize_lora_da_weights(model, data, config, progress=False, **options)


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def unchanged(model: nn.Module, before: dict[str, Tensor], part: str = "") -> bool:
    return all(torch.equal(p, before[name]) for name, p in model.named_parameters() if part in name)


@functools.cache
def collected() -> Statistics:
    return collect_statistics(tiny_llama(), BATCHES, progress=False)


def passes_of(statistics: Statistics) -> Passes:
    """Two passes, of each block of the model."""
    for block in ("layers.0.", "layers.1."):
        parts: dict[str, Any] = {
            name: {key: value for key, value in getattr(statistics, name).items() if block in key}
            for name in ("gradient_sums", "output_sums", "input_sums", "input_groups", "tokens")
        }
        yield list(parts["tokens"]), dataclasses.replace(statistics, **parts)


def test_one_pass_after_the_other_solves_the_same() -> None:
    statistics = collected()
    adapter = open_adapter(with_lora(tiny_llama()), "default")
    whole, parts = (
        solve_adapter(adapter, passes, PARAMETERS, Stopwatch(), progress=False)
        for passes in ([(adapter.layers, statistics)], passes_of(statistics))
    )
    assert list(parts.layers) == list(whole.layers) == list(adapter.layers)
    assert parts.tokens == whole.tokens == statistics.tokens
    assert parts.mean_loss == statistics.loss_sum / 12
    assert not parts.collected.gradient_sums
    for name, init in whole.layers.items():
        assert torch.equal(parts.layers[name].A, init.A)
        assert torch.equal(parts.layers[name].delta_A, init.delta_A)


def test_data_that_say_nothing_of_any_layer_are_an_error() -> None:
    silent = {name: torch.zeros_like(total) for name, total in collected().gradient_sums.items()}
    statistics = dataclasses.replace(collected(), gradient_sums=silent)
    adapter = open_adapter(with_lora(tiny_llama()), "default")
    with pytest.raises(ValueError, match="no layer could be initialised; the first reason: has a gradient of zero"):
        solve_adapter(adapter, [(adapter.layers, statistics)], PARAMETERS, Stopwatch(), progress=False)


def test_a_step_whose_length_is_searched_for_is_left_out() -> None:
    """With the written A, and PEFT's s, it is the whole step of the solution."""
    config = dataclasses.replace(PARAMETERS, init_scale="searched")
    statistics = collected()
    adapter = open_adapter(with_lora(tiny_llama()), "default")
    solution = solve_adapter(adapter, [(adapter.layers, statistics)], config, Stopwatch(), progress=False)
    steps, notices = write_solution(adapter, solution, config)
    assert notices == []
    assert list(steps) == list(adapter.layers)
    for name, layer in adapter.layers.items():
        init = solution.layers[name]
        assert not layer.B.any()
        assert distance(2 * steps[name] @ layer.A.double(), init.delta_A @ init.A) < 1e-5  # lora_alpha 8, rank 4


def test_a_stage_that_is_timed_twice_takes_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 5.0, 7.5, 10.0, 10.25])
    monkeypatch.setattr("lora_da.pipeline.initialization.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    stopwatch = Stopwatch()
    for stage in ("solve", "loss", "solve"):
        with stopwatch.timing(stage):
            pass
    assert stopwatch.seconds == {"solve": 1.25, "loss": 2.5}


def test_a_trained_adapter_is_overwritten_with_a_warning() -> None:
    trained, fresh = with_lora(tiny_llama(), trained=True), with_lora(tiny_llama())
    with pytest.warns(UserWarning, match="lora_B was not zero: the adapter had been trained"):
        report = initialize_lora_da_weights(trained, BATCHES, PARAMETERS, progress=False)
    assert any("lora_B was not zero" in notice for notice in report.notices)
    assert not any("lora_B was not zero" in notice for notice in initialized(fresh, BATCHES).notices)
    assert unchanged(trained, copies(fresh))


def test_layers_without_statistics_keep_their_init() -> None:
    narrow = collect_statistics(with_lora(tiny_llama(), target_modules=["q_proj"]), BATCHES, progress=False)
    model = with_lora(tiny_llama())
    before = copies(model)
    report = initialized(model, statistics=narrow)
    assert len(report.layers) == 2
    assert set(report.kept_default.values()) == {"has no statistics: no token reached it"}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == ("lora_" not in name or "q_proj" not in name)


def test_other_layers_keep_their_init_with_one_warning() -> None:
    model = with_lora(tiny_llama(), target_modules=["embed_tokens", "q_proj"])
    before = copies(model)
    with pytest.warns(UserWarning, match=r"1 layer\(s\) keep PEFT's default init: model\.embed_tokens is no") as caught:
        report = initialize_lora_da_weights(model, BATCHES, progress=False)
    assert sum("keep PEFT's default init" in str(warning.message) for warning in caught) == 1
    assert report.kept_default == {"model.embed_tokens": "is no linear layer (Embedding)"}
    assert unchanged(model, before, "lora_embedding")


def test_a_gradient_of_zero_keeps_the_init() -> None:
    """Where the output projection is zero, nothing before it has a gradient, but it has one itself."""
    examples = [{"input_ids": torch.tensor([4, token]), "labels": torch.tensor([-100, token])} for token in (7, 9, 11)]
    model = with_lora(tiny_llama())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layers.1.self_attn.o_proj.base_layer" in name:
                parameter.zero_()
    before = copies(model)
    report = initialized(model, batches_of(examples))
    silent = [n for n in report.kept_default if n.startswith("model.layers.1.self_attn")]
    assert [name.split(".")[-1] for name in silent] == ["q_proj", "k_proj", "v_proj"]
    assert {report.kept_default[name] for name in silent} == {"has a gradient of zero: the data say nothing about it"}
    for name in silent:
        assert unchanged(model, before, name)
    assert "model.layers.1.self_attn.o_proj" in report.layers


def halved(scale: float) -> tuple[Any, InitializationReport]:
    """An adapter in float16 with the factors of gradients so many times as large, and its report."""
    model = with_lora(tiny_llama(), lora_alpha=4)
    for layer in find_adapted_layers(model, "default")[0].values():
        layer.A.data, layer.B.data = layer.A.data.half(), layer.B.data.half()
    statistics = collected()
    scaled = {name: scale * tensor for name, tensor in statistics.gradient_sums.items()}
    squares = {name: scale**2 * tensor for name, tensor in statistics.output_sums.items()}
    statistics = dataclasses.replace(statistics, gradient_sums=scaled, output_sums=squares)
    config = dataclasses.replace(PRESETS["parameters"], init_scale="theory")
    return model, initialized(model, config=config, statistics=statistics)


@pytest.mark.parametrize("scale", [1e7, 1e-6])  # Δ is the smaller, the larger the gradients are
def test_factors_beyond_float16_share_their_size(scale: float) -> None:
    wanted, _ = halved(1.0)
    found, report = halved(scale)
    assert any("A was divided and B multiplied by a power of two" in notice for notice in report.notices)
    layers = find_adapted_layers(wanted, "default")[0]
    for name, layer in find_adapted_layers(found, "default")[0].items():
        product = layers[name].B.double() @ layers[name].A.double()
        assert distance(layer.B.double() @ layer.A.double() * scale, product) < 5e-3, name


def test_factors_that_no_power_of_two_saves_are_named_or_refused() -> None:
    _, report = halved(1e15)
    assert any("rounding to the adapter's precision takes much of 14 layer(s)" in notice for notice in report.notices)
    with pytest.raises(ValueError, match=r"layer model\.layers\.0\.self_attn\.q_proj: its starting point exceeds"):
        halved(1e-16)

"""Memory budgets and interruptions change nothing of the result, on a trained model."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from lora_da import InitializationReport, collect_statistics, initialize_lora_da_weights
from lora_da.adapter.layers import find_adapted_layers
from lora_da.losses import CausalLM
from lora_da.pipeline.checkpoint import Checkpoint
from models import batches_of, causal_examples, tiny_llama, trained_llama, with_lora
from presets import PARAMETERS
from reference import distance

CONFIG = dataclasses.replace(PARAMETERS, population_size=1000)
BATCHES = batches_of(causal_examples(10), 3)


def initialized(model: Any, batches: Any = BATCHES, **options: Any) -> tuple[dict[str, Tensor], InitializationReport]:
    """The adapter's products s B A, and the report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = initialize_lora_da_weights(model, batches, CONFIG, progress=False, **options)
    layers = find_adapted_layers(model, "default")[0]
    return {name: (layer.scaling * layer.B @ layer.A).detach() for name, layer in layers.items()}, report


def trained() -> Any:
    # In float64, since other orders of summation lead to other roundings.
    return get_peft_model(trained_llama(), LoraConfig(r=4, target_modules="all-linear")).double()


def overlaps(report: InitializationReport) -> list[float]:
    """How far the halves of the sample agree, of the layers of which it is known."""
    found = [layer.half_overlap for layer in report.layers.values() if layer.half_overlap is not None]
    assert len(found) == 16 < len(report.layers)
    return found


@pytest.mark.parametrize(("budget", "passes"), [("1700KB", 3), ("600KB", 8)])
def test_passes_do_not_change_the_result(budget: str, passes: int) -> None:
    wanted, whole = initialized(trained())
    found, report = initialized(trained(), memory_budget=budget)
    assert [note for note in report.notices if f"{passes} passes over the data" in note], report.notices
    assert not [note for note in whole.notices if "passes" in note]
    assert report.layers.keys() == whole.layers.keys()
    assert max(distance(found[name], wanted[name]) for name in wanted) <= 1e-6
    assert report.loss_before == pytest.approx(whole.loss_before, rel=1e-12)
    assert report.loss_after == pytest.approx(whole.loss_after, rel=1e-6)
    assert report.examples == whole.examples == 10
    if passes == 3:
        assert overlaps(report) == pytest.approx(overlaps(whole), abs=1e-6)
    else:  # halves would cost a pass
        assert all(layer.half_overlap is None for layer in report.layers.values())


@pytest.mark.gpu
def test_sums_in_the_hosts_memory_do_not_change_the_result() -> None:
    wanted, whole = initialized(trained().to("cuda"))
    found, report = initialized(trained().to("cuda"), memory_budget="600KB")
    assert [note for note in report.notices if "one pass" in note and "in the host's memory" in note], report.notices
    assert not [note for note in whole.notices if "host" in note]
    assert max(distance(found[name], wanted[name]) for name in wanted) <= 1e-6


def test_a_backward_pass_stops_at_its_lowest_layer() -> None:
    model, differentiated = trained(), []
    model.get_base_model().model.layers[0].register_forward_hook(
        lambda _module, _args, output: differentiated.append(output.requires_grad) if torch.is_grad_enabled() else None
    )
    initialized(model, memory_budget="1700KB", measure_loss=False)
    passes = differentiated[-3 * len(BATCHES) :]  # before, layers that share their input are found
    assert passes == [True] * len(BATCHES) + [False] * 2 * len(BATCHES)


def test_a_budget_that_is_too_small_is_refused_before_any_work() -> None:
    model = with_lora(tiny_llama())
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(ValueError, match="raise the memory budget to that at least, or leave the layer out"):
        initialized(model, memory_budget="1KB")
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_statistics_to_be_kept_must_fit_as_a_whole() -> None:
    with pytest.raises(ValueError, match="let initialize_lora_da_weights collect and solve them in 2 passes"):
        collect_statistics(tiny_llama(), BATCHES, memory_budget="24KB", progress=False)
    with pytest.raises(ValueError, match='a size such as "24GiB"'):
        collect_statistics(tiny_llama(), BATCHES, memory_budget="lots", progress=False)


@pytest.mark.parametrize("budget", ["auto", "1700KB"])
def test_an_interrupted_collection_goes_on(budget: str, tmp_path: Path) -> None:
    wanted, whole = initialized(trained())
    model = trained()
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls == stop_at:
            raise KeyboardInterrupt

    model.get_base_model().model.layers[0].register_forward_pre_hook(count)
    checkpoint = Checkpoint(tmp_path, every=1)
    stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        initialized(model, checkpoint=checkpoint, memory_budget=budget, measure_loss=False)
    calls, stop_at = 0, -1
    found, report = initialized(model, checkpoint=checkpoint, memory_budget=budget, measure_loss=False)
    assert max(distance(found[name], wanted[name]) for name in wanted) <= 1e-6
    assert report.examples == 10
    assert overlaps(report) == pytest.approx(overlaps(whole), abs=1e-6)
    assert calls == (1 if budget == "auto" else 3) * len(BATCHES) - 2  # were done


def test_a_checkpoint_is_not_taken_for_other_weights_or_losses(tmp_path: Path) -> None:
    def gradients(model: Any, key: str | None = None, **options: Any) -> Tensor:
        checkpoint = Checkpoint(tmp_path, loss_key=key)
        found = collect_statistics(model, BATCHES, CONFIG.collection, checkpoint=checkpoint, progress=False, **options)
        return found.gradient_sums["model.layers.1.mlp.up_proj"]

    def halved(output: Any, batch: Any) -> Tensor:
        return 0.5 * CausalLM()(output, batch)

    plain = gradients(tiny_llama())
    assert torch.equal(gradients(tiny_llama()), plain)
    torch.testing.assert_close(gradients(tiny_llama(), "halved", example_loss=halved), 0.5 * plain)
    with pytest.raises(ValueError, match=r"tell the loss .*halved from .*: give Checkpoint\(loss_key=…\)"):
        gradients(tiny_llama(), example_loss=halved)
    changed = tiny_llama()
    with torch.no_grad():
        changed.model.layers[0].mlp.down_proj.weight.mul_(1.5)
    assert distance(gradients(changed), plain) > 1e-3
    assert distance(gradients(tiny_llama().bfloat16()), plain) > 1e-5

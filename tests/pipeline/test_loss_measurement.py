"""A loss that can't be measured once the adapter is there: the adapter is what it is without the measurement."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_da import LoraDAConfig, initialize_lora_da_weights, load_report
from lora_da.adapter.layers import find_adapted_layers
from lora_da.distributed.processes import Processes
from lora_da.losses import CausalLM
from lora_da.pipeline.calibration_source import CalibrationSource, open_source
from lora_da.pipeline.loss_measurement import MeasurementError, measure_loss
from models import batches_of, causal_examples, tiny_llama, with_lora

DATA = batches_of([example for example in causal_examples(4) for _ in range(50)], 50)


def _after(uses: int, error: Exception) -> Callable[[Any, Any], torch.Tensor]:
    """The usual loss, which fails once it was used so often."""
    left = [uses]

    def loss(output: Any, batch: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return CausalLM()(output, batch)

    return loss


def _initialised(
    scale: Any, *, measure: bool = True, loss: Any = None
) -> tuple[dict[str, tuple[torch.Tensor, torch.Tensor]], Any]:
    model = with_lora(tiny_llama(), target_modules="all-linear", r=2)
    config = LoraDAConfig(init_scale=scale, population_size=200)
    report = initialize_lora_da_weights(
        model, DATA, config, max_examples=200, measure_loss=measure, example_loss=loss or CausalLM(), progress=False
    )
    return {name: (layer.A, layer.B) for name, layer in find_adapted_layers(model, "default")[0].items()}, report


@functools.cache
def _undisturbed(scale: Any) -> tuple[Any, Any]:
    return _initialised(scale, measure=False)


def _same(found: Any, expected: Any) -> bool:
    return all(torch.equal(*pair) for name in expected for pair in zip(found[name], expected[name], strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("error", [ValueError("of two\nlines"), torch.OutOfMemoryError("full")])
def test_the_loss_of_the_adapter_fails(error: Exception, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the calibration loss could not be measured"):
        found, report = _initialised("theory", loss=_after(len(DATA), error))
    assert _same(found, _undisturbed("theory")[0])
    assert report.loss_before > 0
    assert report.loss_after is None
    told = [notice for notice in report.notices if "could not be measured" in notice]
    assert told == [
        f"the calibration loss could not be measured ({type(error).__name__}: {' '.join(str(error).split())}): the "
        "adapter is initialised all the same"
    ]
    report.save(tmp_path)
    assert load_report(tmp_path) == report


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("uses", [0, 3])
def test_a_search_that_fails_leaves_b_at_zero(uses: int) -> None:
    """At its first length, 0, or at one that is being tried."""
    found, report = _initialised("searched", measure=False, loss=_after(len(DATA) + uses, RuntimeError("broken")))
    assert _same(found, _undisturbed("zero")[0])
    assert report.step_length == 0
    assert any("could not be searched for (RuntimeError: broken)" in notice for notice in report.notices)
    assert _undisturbed("searched")[1].step_length > 0


def test_an_error_of_the_search_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a fault of the program")

    monkeypatch.setattr("lora_da.pipeline.step_length.find_length", broken)
    with pytest.raises(KeyError, match="a fault of the program"):
        _initialised("searched")


@dataclass(frozen=True)
class _Two(Processes):
    """A job of two, in which the other process has a fault or none."""

    fault: str | None = None

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        return [value, (30.0, 2, self.fault)]


@pytest.mark.parametrize("mine", [None, ValueError("mine")])
@pytest.mark.parametrize("theirs", [None, "theirs"])
def test_processes_fail_alike(monkeypatch: pytest.MonkeyPatch, mine: Exception | None, theirs: str | None) -> None:
    def measured(*_: Any, **__: Any) -> tuple[float, int]:
        if mine is not None:
            raise mine
        return 10.0, 2

    monkeypatch.setattr("lora_da.pipeline.loss_measurement.measure_calibration_loss", measured)
    source = open_source(tiny_llama(), None, DATA, 10, CausalLM(), progress=False)
    source = dataclasses.replace(source, processes=_Two(0, 2, torch.device("cpu"), theirs))
    faults = [*(["process 0: ValueError: mine"] if mine else []), *(["process 1: theirs"] if theirs else [])]
    if faults:
        with pytest.raises(MeasurementError, match=f"^{'; '.join(faults)}$"):
            measure_loss(source)
    else:
        assert measure_loss(source) == 10
        assert measure_loss(source, of_first_process=True) == 5
    monkeypatch.setattr(CalibrationSource, "sharded", True)
    monkeypatch.setattr(CalibrationSource, "repeats_of", lambda *_: 0)
    if mine:  # the others wait for its weights and can't be told
        with pytest.raises(ValueError, match=r"^mine$"):
            measure_loss(source)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_is_not_a_number_is_no_json_but_a_notice(tmp_path: Path) -> None:
    left = [len(DATA)]

    def loss(output: Any, batch: Any) -> torch.Tensor:
        left[0] -= 1
        return CausalLM()(output, batch) * (1 if left[0] >= 0 else math.nan)

    _, report = _initialised("theory", loss=loss)
    path = report.save(tmp_path)
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["report"]["loss_after"] is None
    assert any("to nan" in notice for notice in load_report(tmp_path).notices)

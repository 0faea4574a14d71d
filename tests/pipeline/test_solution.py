"""Solving all layers shares the factor of a group and gives what solving each alone gives."""

from __future__ import annotations

import dataclasses
from unittest.mock import Mock

import pytest
import torch

from lora_da import CollectionConfig, LoraDAConfig, Statistics, solve_layer
from lora_da.pipeline import solution as module
from lora_da.pipeline.solution import report_layer, solve_layers, solving_device
from lora_da.solver.factors import SolverError
from lora_da.solver.layer import factorise_input, solver_bytes
from lora_da.statistics.sums import ModelIdentity
from presets import PARAMETERS

CONFIG = dataclasses.replace(PARAMETERS, population_size=1000)


def statistics() -> Statistics:
    """Two groups of layers, with their members apart from each other in the model's order."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    inputs = {name: random(40, 6) for name in ("q", "o")}
    return Statistics(
        gradient_sums={name: random(5, 6) for name in ("q", "o", "k")},
        output_sums={name: random(40, 5).square().sum(0) for name in ("q", "o", "k")},
        input_sums={name: a.T @ a for name, a in inputs.items()},
        input_groups={"q": "q", "o": "o", "k": "q"},
        tokens=dict.fromkeys(("q", "o", "k"), 40),
        examples=8,
        loss_sum=1.0,
        config=CollectionConfig(),
        model=ModelIdentity(signature=torch.ones(3)),
    )


def test_each_group_is_factorised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Mock(side_effect=factorise_input)
    monkeypatch.setattr(module, "factorise_input", counted)
    sums = statistics()
    solved, unsolved = solve_layers(sums, {"q": 2, "o": 3, "k": 1}, CONFIG, progress=False)
    assert counted.call_count == 2
    assert unsolved == {}
    assert list(solved) == ["q", "o", "k"]
    for name, rank in {"q": 2, "o": 3, "k": 1}.items():
        alone = solve_layer(sums[name], rank, CONFIG)
        assert alone is not None
        assert torch.equal(solved[name].A, alone.A)


def test_what_has_no_solution_is_named_with_the_reason() -> None:
    sums = statistics()
    sums.gradient_sums["k"].zero_()
    sums.tokens["o"] = 0
    solved, unsolved = solve_layers(sums, {"q": 2, "k": 1, "o": 2, "expert": 1}, CONFIG, progress=False)
    assert list(solved) == ["q"]
    assert unsolved == {
        "expert": "has no statistics: no token reached it",
        "o": "has no statistics: no counted token reached it",
        "k": "has a gradient of zero: the data say nothing about it",
    }


def test_an_unusable_layer_is_an_error_that_names_it() -> None:
    sums = statistics()
    sums.gradient_sums["o"][0, 0] = float("nan")
    with pytest.raises(SolverError, match="layer o: the gradient is not finite"):
        solve_layers(sums, {"q": 2, "o": 2}, CONFIG, progress=False)


def test_layers_too_large_for_a_gpu_are_solved_by_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    monkeypatch.setattr(module, "free_bytes", lambda _device: solver_bytes(30, 20))
    assert solving_device((30, 20), gpu) == gpu
    assert solving_device((31, 20), gpu) == cpu
    assert solving_device((31, 20), None) is None
    assert solving_device((31, 20), cpu) == cpu


def test_numbers_of_a_layer() -> None:
    sums = statistics()
    init = solve_layer(sums["q"], 3, CONFIG)
    assert init is not None
    init = dataclasses.replace(
        init, eigenvalues=torch.tensor([-4.0, -3.0, 0.5, -1.0]), input_raised=1, output_raised=2, input_damping=0.25
    )
    report = report_layer(init, tokens=40, scaling=2.0)
    assert (report.rank, report.scaling, report.tokens) == (3, 2.0, 40)
    assert report.tokens_per_input_dimension == pytest.approx(40 / 6)
    assert report.eigenvalues == (-4.0, -3.0, 0.5, -1.0)
    assert report.negative_eigenvalues == 2  # the next eigenvalue is not counted
    assert report.captured_energy == tuple(init.captured_energy.tolist())
    assert (report.damping_raised, report.input_damping, report.delta_norm) == (3, 0.25, init.delta_norm)


@pytest.mark.parametrize("config", [LoraDAConfig(), CONFIG], ids=["loss", "parameters"])
def test_the_number_of_threads_changes_nothing(config: LoraDAConfig) -> None:
    generator = torch.Generator().manual_seed(1)
    a, G, g = (torch.randn(*shape, generator=generator) for shape in ((900, 700), (300, 700), (900, 300)))
    sums = dataclasses.replace(
        statistics(),
        gradient_sums={name: G * scale for name, scale in {"q": 1.0, "o": 2.0, "k": 3.0}.items()},
        output_sums=dict.fromkeys(("q", "o", "k"), g.square().sum(0)),
        input_sums={"q": a.T @ a, "o": a[:800].T @ a[:800]},
        tokens=dict.fromkeys(("q", "o", "k"), 900),
    )
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(solve_layers(sums, dict.fromkeys(("q", "o", "k"), 4), config, progress=False)[0])
    finally:
        torch.set_num_threads(before)
    for name, init in found[0].items():
        assert torch.equal(init.A, found[1][name].A)
        assert torch.equal(init.delta_A, found[1][name].delta_A)

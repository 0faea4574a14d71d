"""One layer from its sums to its solution, against the dense equations, and what must not change it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_da import CollectionConfig, LayerStatistics, LoraDAConfig, solve_layer
from lora_da.solver import _eigenpairs as eigen
from lora_da.solver.factors import SolverError
from lora_da.solver.layer import factorise_input
from lora_da.solver.layer_init import LayerInit
from oracles import OracleSolution, largest_angle, randn, solve
from presets import PARAMETERS

FULL = CollectionConfig(output_factor="full")
PRESETS = {
    "damped": dataclasses.replace(PARAMETERS, population_size=500),
    "paper": dataclasses.replace(LoraDAConfig.paper(), population_size=500),
    "released": dataclasses.replace(LoraDAConfig.released(), population_size=500),
}
BASE = LoraDAConfig(metric="parameters", collection=FULL, population_size=30, input_damping=0.05, output_damping=0.02)
NO_VARIANCE: dict[str, Any] = {"variance_weight": 0.0, "sample_correction": "none"}


def make_layer(
    seed: int = 0, d_out: int = 14, d_in: int = 20, examples: int = 16, length: int = 10, signal: float = 0.5
) -> LayerStatistics:
    """Sums over made-up tokens with correlated inputs and outputs, and a true gradient beside the noise."""
    tokens = examples * length
    a = (
        randn(seed, tokens, d_in)
        @ (randn(seed + 1, d_in, d_in) / d_in**0.5)
        * torch.logspace(0.5, -0.5, d_in, dtype=torch.float64)
    )
    g = (
        randn(seed + 2, tokens, d_out)
        @ (randn(seed + 3, d_out, d_out) / d_out**0.5)
        * torch.logspace(0, -1, d_out, dtype=torch.float64)
    )
    g = g + signal * (a @ randn(seed + 4, d_in, 3)) @ randn(seed + 5, 3, d_out) / d_in**0.5
    return LayerStatistics(g.T @ a, a.T @ a, g.T @ g, tokens, examples)


def solved(layer: LayerStatistics, rank: int, config: LoraDAConfig) -> LayerInit:
    init = solve_layer(layer, rank, config)
    assert init is not None
    return init


def oracle_of(layer: LayerStatistics, rank: int, config: LoraDAConfig, init: LayerInit) -> OracleSolution:
    return solve(layer, rank, config, init.input_damping, init.output_damping)


def check(layer: LayerStatistics, rank: int, config: LoraDAConfig, tolerance: float = 1e-7) -> LayerInit:
    """Every field of the solution against the dense equations."""
    init = solved(layer, rank, config)
    wanted = oracle_of(layer, rank, config, init)
    d_out, d_in = layer.gradient_sum.shape
    Z = layer.input_sum.double() / layer.tokens
    scale = float(wanted.values[0].abs())
    assert init.A.shape == (rank, d_in)
    assert init.delta_A.shape == (d_out, rank)
    assert torch.allclose(init.A @ init.A.T, torch.eye(rank, dtype=torch.float64), atol=1e-11)
    count = min(rank + 1, d_in)
    assert init.eigenvalues.shape == (count,)
    assert torch.allclose(init.eigenvalues, wanted.values[:count], rtol=0, atol=tolerance * scale)
    assert largest_angle(init.A, wanted.A) < tolerance**0.5
    assert float((init.delta_A @ init.A - wanted.delta_A @ wanted.A).norm() / wanted.delta.norm()) < tolerance**0.5
    assert torch.allclose(init.delta_A, wanted.delta @ init.A.T, rtol=0, atol=tolerance * float(wanted.delta.norm()))
    assert init.delta_norm == pytest.approx(float(torch.linalg.matrix_norm(wanted.delta, 2)), rel=1e-9)
    assert torch.allclose(init.activation_covariance, init.A @ Z @ init.A.T, rtol=1e-9, atol=1e-12)
    assert init.input_mean_square == pytest.approx(float(Z.trace()) / d_in)
    for k in range(1, rank + 1):
        share = float((wanted.delta @ init.A[:k].T).square().sum() / wanted.delta.square().sum())
        assert float(init.captured_energy[k - 1]) == pytest.approx(share, abs=1e-9)
    assert init.residual <= 1.5 * eigen.TOLERANCE
    assert (init.input_raised, init.output_raised) == (0, 0)
    return init


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("rank", [1, 4, 19, 20])
@pytest.mark.parametrize("d_out", [3, 14, 30])
def test_presets_against_the_dense_equations(preset: str, rank: int, d_out: int) -> None:
    check(make_layer(seed=3, d_out=d_out), rank, PRESETS[preset])


OPTIONS: list[tuple[str, Any]] = [
    ("fisher_unit", "token"),
    ("output_factor", "diagonal_of_inverse"),
    ("input_damping", 0.5),
    ("output_damping", 0.5),
    ("damping_mode", "absolute"),
    ("bias_weight", 0.3),
    ("bias_weight", 0.0),
    ("variance_weight", 9.0),
    ("variance_weight", 0.0),
    ("population_size", 3),
    ("population_size", None),
    ("sample_correction", "none"),
]


@pytest.mark.parametrize(("name", "value"), OPTIONS)
def test_every_option_is_exact_and_has_an_effect(name: str, value: Any) -> None:
    layer = make_layer(seed=7)
    plain = check(layer, 4, BASE)
    changed = check(layer, 4, dataclasses.replace(BASE, **{name: value}))
    assert not torch.allclose(plain.eigenvalues, changed.eigenvalues, rtol=1e-4)
    if name != "fisher_unit":
        assert largest_angle(plain.A, changed.A) > 1e-3, "the subspace should change too"


@pytest.mark.parametrize("changes", [{"init_scale": "theory"}, {"stable_gamma": 3.0}])
def test_the_scale_is_not_the_solvers_business(changes: dict[str, Any]) -> None:
    layer = make_layer()
    changed = dataclasses.replace(BASE, **changes)
    assert torch.equal(solved(layer, 4, BASE).delta_A, solved(layer, 4, changed).delta_A)


def test_dampings_are_reported_as_they_were_used() -> None:
    layer = make_layer()
    init = solved(layer, 2, BASE)
    assert init.input_damping == pytest.approx(0.05 * float(layer.input_sum.trace()) / layer.tokens / 20)
    assert init.output_damping == pytest.approx(0.02 * float(layer.output_sum.trace()) / layer.tokens / 14)
    absolute = solved(layer, 2, dataclasses.replace(BASE, damping_mode="absolute"))
    assert (absolute.input_damping, absolute.output_damping) == (0.05, 0.02)


def test_raised_dampings_are_reported_and_used() -> None:
    layer = make_layer(d_in=20, d_out=14, examples=2, length=4)  # 8 tokens: both factors are singular
    config = dataclasses.replace(PRESETS["paper"], input_damping=0.0, output_damping=1e-20, damping_mode="absolute")
    init = solved(layer, 3, config)
    assert init.input_raised >= 1
    assert init.output_raised >= 1
    assert 0 < init.input_damping < 1e-6
    assert 1e-20 < init.output_damping < 1e-6


def test_special_case_is_the_singular_value_decomposition_of_the_gradient() -> None:
    # No variance term, Z = Y = I (T = 40 tokens): LoRA-GA, LoRA-One.
    gradient = randn(5, 9, 12)
    identity = LayerStatistics(
        gradient * 4, 40 * torch.eye(12, dtype=torch.float64), 40 * torch.eye(9, dtype=torch.float64), 40, 4
    )
    for factor in ("inverse_of_diagonal", "diagonal_of_inverse"):
        config = LoraDAConfig(
            metric="parameters",
            collection=FULL,
            fisher_unit="token",
            output_factor=factor,
            input_damping=0.0,
            output_damping=0.0,
            **NO_VARIANCE,
        )
        init = solved(identity, 3, config)
        left, singular, right = torch.linalg.svd(-gradient)
        assert largest_angle(init.A, right[:3]) < 1e-7
        assert torch.allclose(init.delta_A @ init.A, (left[:, :3] * singular[:3]) @ right[:3], atol=1e-9)
        assert torch.allclose(init.eigenvalues, -singular[:4].square(), rtol=1e-10)
        assert init.delta_norm == pytest.approx(float(singular[0]), rel=1e-9)
        shares = singular.square().cumsum(0) / singular.square().sum()
        assert torch.allclose(init.captured_energy, shares[:3], rtol=1e-10)


def test_by_hand() -> None:
    # Z = diag(2, 1), Y = diag(1, 3) per token over T = 4 tokens, S = 2 examples, T̄ = 2; λ = 0.5, λ' = 1.
    layer = LayerStatistics(
        gradient_sum=torch.tensor([[4.0, 0.0], [0.0, 8.0]]),
        input_sum=torch.tensor([[8.0, 0.0], [0.0, 4.0]]),
        output_sum=torch.tensor([4.0, 12.0]),
        tokens=4,
        examples=2,
    )
    config = LoraDAConfig(
        metric="parameters",
        input_damping=0.5,
        output_damping=1.0,
        damping_mode="absolute",
        population_size=10,
        variance_weight=2.0,
    )
    # Δ = −(1/T̄) y⁻ G Z_λ⁻¹ with G = diag(2, 4), y⁻ = (1/2, 1/4): −diag(1/2·1/2·2/2.5, 1/2·1/4·4/1.5) = −diag(0.2, 1/3).
    # Ω_jj = (2·0.75/(10·2) + 0.75/(2·2))/(z+λ) − Δ_jj²
    first, second = 0.2625 / 2.5 - 0.04, 0.2625 / 1.5 - 1 / 9
    init = solved(layer, 1, config)
    assert init.eigenvalues.tolist() == pytest.approx(sorted([first, second]))
    assert init.A.tolist() == [pytest.approx([0.0, 1.0], abs=1e-12)]
    assert init.delta_A.flatten().tolist() == pytest.approx([0.0, -1 / 3])
    assert init.captured_energy.tolist() == pytest.approx([(1 / 9) / (0.04 + 1 / 9)])
    assert init.delta_norm == pytest.approx(1 / 3)
    assert (init.input_mean_square, init.input_damping, init.output_damping) == (1.5, 0.5, 1.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 500), power=st.integers(-5, 5), preset=st.sampled_from(["damped", "paper"]))
def test_scale_of_the_gradients(seed: int, power: int, preset: str) -> None:
    """G·t and Y·t² leave the subspace where it is and divide Δ by t."""
    t = 10.0**power
    layer = make_layer(seed)
    scaled = dataclasses.replace(layer, gradient_sum=layer.gradient_sum * t, output_sum=layer.output_sum * t * t)
    plain, other = solved(layer, 20, PRESETS[preset]), solved(scaled, 20, PRESETS[preset])
    assert torch.allclose(
        other.eigenvalues * t * t, plain.eigenvalues, rtol=1e-8, atol=1e-10 * float(plain.eigenvalues.abs().max())
    )
    gaps = plain.eigenvalues.diff() / plain.eigenvalues[0].abs()
    rank = int(gaps[:10].argmax()) + 1  # where the subspace is best determined
    first, second = solved(layer, rank, PRESETS[preset]), solved(scaled, rank, PRESETS[preset])
    assert largest_angle(first.A, second.A) < 1e-6
    product = first.delta_A @ first.A
    assert float((second.delta_A @ second.A * t - product).norm() / product.norm()) < 1e-6
    assert second.delta_norm * t == pytest.approx(first.delta_norm, rel=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 500), preset=st.sampled_from(sorted(PRESETS)), rank=st.integers(1, 6))
def test_rotating_the_inputs_rotates_the_subspace(seed: int, preset: str, rank: int) -> None:
    layer, config = make_layer(seed), PRESETS[preset]
    turn = torch.linalg.qr(randn(seed + 50, 20, 20))[0]
    turned = dataclasses.replace(
        layer, gradient_sum=layer.gradient_sum @ turn.T, input_sum=turn @ layer.input_sum @ turn.T
    )
    plain, other = solved(layer, rank, config), solved(turned, rank, config)
    assert torch.allclose(
        other.eigenvalues, plain.eigenvalues, rtol=1e-7, atol=1e-9 * float(plain.eigenvalues[0].abs())
    )
    assert torch.allclose(other.captured_energy, plain.captured_energy, atol=1e-5)
    if float(plain.eigenvalues[-1] - plain.eigenvalues[-2]) > 1e-3 * float(plain.eigenvalues[0].abs()):
        assert largest_angle(other.A, plain.A @ turn.T) < 1e-5
        wanted = plain.delta_A @ plain.A @ turn.T
        assert float((other.delta_A @ other.A - wanted).norm() / wanted.norm()) < 1e-5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 500), copies=st.integers(2, 5))
def test_repeating_the_data_changes_only_the_sample_correction(seed: int, copies: int) -> None:
    layer = make_layer(seed)
    more = LayerStatistics(
        layer.gradient_sum * copies,
        layer.input_sum * copies,
        layer.output_sum * copies,
        layer.tokens * copies,
        layer.examples * copies,
    )
    config = dataclasses.replace(BASE, sample_correction="none")
    first, second = solved(layer, 4, config), solved(more, 4, config)
    assert torch.allclose(first.eigenvalues, second.eigenvalues, rtol=1e-9, atol=1e-11)
    assert torch.allclose(first.delta_A @ first.A, second.delta_A @ second.A, rtol=1e-5, atol=1e-7)
    corrected = solved(layer, 4, BASE).eigenvalues, solved(more, 4, BASE).eigenvalues
    assert bool((corrected[1] < corrected[0]).all())  # less noise to remove


def test_rank_is_bounded_by_the_input_width_alone() -> None:
    layer = make_layer(d_out=3, d_in=8)
    for rank in (0, -1, 9):
        with pytest.raises(ValueError, match=rf"rank {rank} is not between 1 and the layer's input width 8"):
            solve_layer(layer, rank, BASE)
    check(layer, 8, BASE)
    assert solved(layer, 8, BASE).eigenvalues.shape == (8,)  # there is no next one


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("silent", [True, False])
def test_a_gradient_of_zero_says_nothing(preset: str, full: bool, silent: bool) -> None:
    """Whether tokens cancel or, as in a layer cut off from the loss, none of them has a gradient."""
    if preset == "paper" and not full:
        return
    layer = make_layer()
    output = layer.output_sum if full else layer.output_sum.diagonal()
    layer = dataclasses.replace(
        layer,
        gradient_sum=torch.zeros_like(layer.gradient_sum),
        output_sum=torch.zeros_like(output) if silent else output,
    )
    assert solve_layer(layer, 2, PRESETS[preset]) is None


@pytest.mark.parametrize("field", ["gradient_sum", "input_sum", "output_sum"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("preset", PRESETS)
def test_statistics_that_are_not_finite(field: str, bad: float, preset: str) -> None:
    layer = make_layer()
    tensor = getattr(layer, field).clone()
    tensor[1, 1] = bad
    with pytest.raises(SolverError, match="finite"):
        solve_layer(dataclasses.replace(layer, **{field: tensor}), 2, PRESETS[preset])


def test_unusable_statistics() -> None:
    layer = make_layer()
    with pytest.raises(SolverError, match="no token"):
        solve_layer(dataclasses.replace(layer, tokens=0), 2, BASE)
    with pytest.raises(SolverError, match="zero"):
        solve_layer(dataclasses.replace(layer, input_sum=layer.input_sum * 0), 2, BASE)
    with pytest.raises(SolverError, match="zero"):
        solve_layer(dataclasses.replace(layer, output_sum=layer.output_sum * 0), 2, BASE)
    with pytest.raises(SolverError, match="no covariance"):
        solve_layer(
            dataclasses.replace(layer, input_sum=layer.input_sum - 0.9 * torch.diag(layer.input_sum.diagonal())),
            2,
            BASE,
        )


def test_a_missing_full_output_factor_is_named() -> None:
    layer = make_layer()
    layer = dataclasses.replace(layer, output_sum=layer.output_sum.diagonal())
    with pytest.raises(ValueError, match=r'CollectionConfig\(output_factor="full"\)'):
        solve_layer(layer, 2, PRESETS["paper"])
    check(layer, 2, PRESETS["damped"])


def test_when_the_population_size_is_needed() -> None:
    layer = make_layer()
    for preset in (LoraDAConfig.paper(), LoraDAConfig.released()):
        with pytest.raises(ValueError, match="population_size"):
            solve_layer(layer, 2, preset)
        check(layer, 2, dataclasses.replace(preset, variance_weight=0.0))
    unknown = check(layer, 2, dataclasses.replace(PARAMETERS, population_size=None))  # the correction stands in for it
    known = check(layer, 2, dataclasses.replace(PARAMETERS, population_size=10**12))
    assert torch.allclose(known.eigenvalues, unknown.eigenvalues, rtol=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_shared_input_factor_gives_the_same(preset: str) -> None:
    layer, config = make_layer(), PRESETS[preset]
    shared = solve_layer(layer, 3, config, input_factor=factorise_input(layer, config))
    assert shared is not None
    assert torch.equal(shared.A, solved(layer, 3, config).A)


def test_float32_statistics_are_solved_in_float64() -> None:
    layer = make_layer()
    single = dataclasses.replace(
        layer,
        gradient_sum=layer.gradient_sum.float(),
        input_sum=layer.input_sum.float(),
        output_sum=layer.output_sum.float(),
    )
    init = check(single, 3, BASE)
    assert init.A.dtype == init.delta_A.dtype == torch.float64
    assert largest_angle(init.A, solved(layer, 3, BASE).A) < 1e-4


def test_massive_activations() -> None:
    """Two inputs a million times the others, as language models have them: Z spans 12 orders of magnitude."""
    layer = make_layer(seed=4)
    sizes = torch.ones(20, dtype=torch.float64)
    sizes[3] = sizes[11] = 1e6
    layer = dataclasses.replace(
        layer, gradient_sum=layer.gradient_sum * sizes, input_sum=sizes[:, None] * layer.input_sum * sizes
    )
    config = dataclasses.replace(BASE, input_damping=1e-6, damping_mode="absolute")
    init = solved(layer, 3, config)
    assert init.input_raised == 0
    # The dense inverse in the natural variables is accurate when the scale is taken out first.
    Z = layer.input_sum / layer.tokens / sizes / sizes[:, None]
    inverse = torch.linalg.inv(Z + 1e-6 * torch.diag(sizes**-2)) / sizes / sizes[:, None]
    y = 1 / (layer.output_sum.diagonal() / layer.tokens + 0.02)
    unit = layer.tokens / layer.examples
    delta = -y[:, None] * (layer.gradient_sum / layer.examples) @ inverse / unit
    weight = float(y.sum()) / unit * (1 / 30 + 1 / layer.examples)
    vectors = torch.linalg.eigh(weight * inverse - delta.T @ delta).eigenvectors[:, :3]
    assert largest_angle(init.A, vectors.T) < 1e-6
    assert torch.allclose(init.delta_A, delta @ init.A.T, rtol=1e-7, atol=1e-9 * float(delta.norm()))

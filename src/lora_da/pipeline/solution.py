"""All layers of a model: from their statistics to their solutions, and what a report says of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import torch
from tqdm.auto import tqdm

from lora_da.adapter.layers import AdaptedLayer
from lora_da.config import LoraDAConfig
from lora_da.report.layers import LayerReport
from lora_da.solver.factors import DampedFactor, SolverError
from lora_da.solver.layer import factorise_input, solve_layer, solver_bytes
from lora_da.solver.layer_init import LayerInit
from lora_da.statistics.sums import LayerStatistics, ModelIdentity, Statistics
from lora_da.system.memory import free_bytes
from lora_da.system.threads import run_side_by_side

_CPU = torch.device("cpu")
_NARROW = 2048  # inputs: so small a factorisation gains little from more threads than one
_SHARE = 0.25  # of the free memory, for layers that are solved side by side


def solve_layers(
    statistics: Statistics,
    ranks: Mapping[str, int],
    config: LoraDAConfig,
    device: torch.device | None = None,
    *,
    progress: bool = True,
) -> tuple[dict[str, LayerInit], dict[str, str]]:
    """Solve some layers, factorising the input factor once for all layers that share it.

    They are solved on ``device`` as far as they fit there, by default where the sums are. On a CPU, layers of small
    width are solved side by side.

    Returns:
        The solutions by name, and the reasons why other layers have none.

    Raises:
        SolverError: The statistics of a layer are unusable; the message names it.
    """
    solved: dict[str, LayerInit] = {}
    unsolved = {name: reason for name in ranks if (reason := _reason_against(statistics, name))}
    groups = _sharing_an_input(statistics, [name for name in ranks if name not in unsolved])
    narrow: list[list[str]] = []
    wide: list[list[str]] = []
    for names in groups:
        (narrow if _is_narrow(statistics, names, device) else wide).append(names)
    needed = max((_needed_bytes(statistics[name]) for names in narrow for name in names), default=1)

    def solve(names: Sequence[str]) -> dict[str, LayerInit]:
        return _solve_group(statistics, {name: ranks[name] for name in names}, config, device)

    with tqdm(desc="solve", unit="layer", total=sum(map(len, groups)), disable=not progress) as bar:
        side_by_side = run_side_by_side(solve, narrow, int(_SHARE * free_bytes(_CPU)) // needed)
        for found in chain(side_by_side, map(solve, wide)):
            solved |= found
            bar.update(len(found))
    return {name: solved[name] for name in ranks if name in solved}, unsolved


def _is_narrow(statistics: Statistics, names: Sequence[str], device: torch.device | None) -> bool:
    """Whether one thread of the CPU is enough for some layers."""
    return all(
        layer.gradient_sum.shape[1] <= _NARROW and (device or layer.gradient_sum.device).type == "cpu"
        for layer in map(statistics.__getitem__, names)
    )


def _needed_bytes(layer: LayerStatistics) -> int:
    return solver_bytes(*layer.gradient_sum.shape, full=layer.output_sum.ndim == 2)


def _solve_group(
    statistics: Statistics, ranks: Mapping[str, int], config: LoraDAConfig, device: torch.device | None
) -> dict[str, LayerInit]:
    """Solve layers that share an input."""
    solved: dict[str, LayerInit] = {}
    factor: DampedFactor | None = None
    for name, rank in ranks.items():
        layer = statistics[name]
        layer = layer.to(solving_device(layer.gradient_sum.shape, device, full=layer.output_sum.ndim == 2))
        try:
            factor = factor or factorise_input(layer, config)
            init = solve_layer(layer, rank, config, input_factor=factor)
        except SolverError as error:
            raise SolverError(f"layer {name}: {error}") from error
        assert init is not None  # its gradient is not zero
        solved[name] = init
    return solved


def _reason_against(statistics: Statistics, name: str) -> str | None:
    """Why a layer has no solution."""
    if name not in statistics.tokens:
        return "has no statistics: no token reached it"
    if statistics.tokens[name] == 0:
        return "has no statistics: no counted token reached it"
    if not bool(statistics.gradient_sums[name].any()):
        return "has a gradient of zero: the data say nothing about it"
    return None


def _sharing_an_input(statistics: Statistics, names: Iterable[str]) -> list[list[str]]:
    """The layers in groups of those that share an input, whose factor is held while they are solved."""
    order = {name: index for index, name in enumerate(statistics.layers)}
    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=order.__getitem__):
        groups.setdefault(statistics.input_groups[name], []).append(name)
    return list(groups.values())


def report_layer(init: LayerInit, *, tokens: int, scaling: float) -> LayerReport:
    """Return what a report says of a layer's solution from so many counted tokens, with PEFT's ``scaling`` s."""
    (rank, d_in), d_out = init.A.shape, len(init.delta_A)
    eigenvalues = tuple(init.eigenvalues.tolist())
    return LayerReport(
        rank=rank,
        scaling=scaling,
        tokens=tokens,
        tokens_per_input_dimension=tokens / d_in,
        eigenvalues=eigenvalues,
        negative_eigenvalues=sum(value < 0 for value in eigenvalues[:rank]),
        captured_energy=tuple(init.captured_energy.tolist()),
        delta_norm=init.delta_norm,
        input_damping=init.input_damping,
        output_damping=init.output_damping,
        damping_raised=init.input_raised + init.output_raised,
        residual=init.residual,
        shape=(d_out, d_in),
        noise_ratios=None if init.noise_ratios is None else tuple(init.noise_ratios.tolist()),
        half_overlap=init.half_overlap,
    )


def solving_device(shape: Sequence[int], device: torch.device | None, *, full: bool = False) -> torch.device | None:
    """Return the device that a layer of shape (d_out, d_in) is solved on: the host if a GPU has too little free."""
    if device is not None and device.type == "cuda" and solver_bytes(*shape, full=full) > free_bytes(device):
        return torch.device("cpu")
    return device


def check_collection(statistics: Statistics, config: LoraDAConfig) -> None:
    """Check that statistics were collected as the settings ask.

    Raises:
        ValueError: They were not; the message says in what.
    """
    collected, asked = statistics.config.loss_reduction, config.collection.loss_reduction
    if collected != asked:
        raise ValueError(
            f"the statistics were collected with loss_reduction={collected!r}, the settings ask for {asked!r}: collect "
            "anew, or give a LoraDAConfig whose collection is that of the statistics"
        )


def check_statistics(
    statistics: Statistics, config: LoraDAConfig, layers: Mapping[str, AdaptedLayer], model: ModelIdentity
) -> None:
    """Check that statistics belong to a model and to the settings.

    Raises:
        ValueError: They don't; the message says in what.
    """
    check_collection(statistics, config)
    if not statistics.model.matches(model):
        raise ValueError(f"the statistics belong to another model ({statistics.model.name}) than this ({model.name})")
    for name, layer in layers.items():
        if name in statistics.tokens:
            shape = tuple(statistics.gradient_sums[name].shape)
            if shape != layer.shape:
                raise ValueError(f"the statistics of layer {name} have shape {shape}, the layer has {layer.shape}")
    if statistics.tokens and not any(name in statistics.tokens for name in layers):
        raise ValueError(
            f"the statistics know none of the adapted layers: they have {statistics.layers[:3]}…, the adapter "
            f"{list(layers)[:3]}…"
        )

"""Whether sums can be statistics at all: what arithmetic alone can tell of them, before anything is computed from them.

That are precisions, shapes, finite entries, counts, and that a sum of squares is symmetric with a diagonal that is not
negative. Whether it is positive definite is found out by its factorisation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.statistics.sums import Statistics

if TYPE_CHECKING:
    from jaxtyping import Shaped

_ASYMMETRY = 1e-3  # of √(F_ii F_jj): the rounding of float32 sums over millions of tokens stays below
_ROWS = 128  # compared at once: few enough to stay in a cache


def check_sums(statistics: Statistics) -> None:
    """Check all sums and counts, and that they say which model they are of.

    Raises:
        ValueError: They can't be statistics; the message names the layer and says why.
    """
    fault = _fault_of_whole(statistics)
    if fault is not None:
        raise ValueError(f"the statistics can't be used: {fault}")
    for name in statistics.layers:
        sums = statistics.gradient_sums[name], statistics.input_sums[statistics.input_groups[name]]
        fault = find_fault(*sums, statistics.output_sums[name], statistics.tokens[name], statistics.examples)
        if fault is not None:
            raise ValueError(f"the statistics of layer {name} can't be used: {fault}")


def find_fault(
    gradient: Tensor,
    input_sum: Tensor,
    output_sum: Tensor,
    tokens: int,
    examples: int,
    *,
    input_known: bool = False,
) -> str | None:
    """Return why one layer's sums and counts can't be statistics; None if they can.

    The entries of an input sum that several layers share need to be looked at only once: ``input_known``.
    """
    sums = {"gradient": gradient, "input factor": input_sum, "output factor": output_sum}
    for name, tensor in sums.items():
        if tensor.dtype not in (torch.float32, torch.float64):
            return f"the {name} is in {tensor.dtype}, and sums are in float32 or float64"
    if gradient.ndim != 2 or 0 in gradient.shape:
        return f"the gradient has the shape {tuple(gradient.shape)}, and a layer's has (d_out, d_in)"
    d_out, d_in = gradient.shape
    if input_sum.shape != (d_in, d_in):
        return f"the input factor has the shape {tuple(input_sum.shape)}, not {(d_in, d_in)} as the gradient asks"
    if output_sum.shape not in ((d_out,), (d_out, d_out)):
        shape = tuple(output_sum.shape)
        return f"the output factor has the shape {shape}, not {(d_out,)} or {(d_out, d_out)} as the gradient asks"
    if input_known:
        del sums["input factor"]
    for name, tensor in sums.items():
        if not is_finite(tensor):
            return f"the {name} is not finite"
    for name, count, least in (("tokens", tokens, 0), ("examples", examples, 1)):
        if not _is_count(count, least):
            return f"the number of {name} is {count!r}"
    del sums["gradient"]
    for name, tensor in sums.items():
        if not is_sum_of_squares(tensor):
            return f"the {name} is no sum of squares: it is not symmetric, or its diagonal is negative somewhere"
    return None


def is_finite(tensor: Shaped[Tensor, ...]) -> bool:
    """Return whether no entry is infinite or no number, by the extremes, which need no mask as large as the tensor."""
    if tensor.numel() == 0:
        return True
    least, largest = torch.aminmax(tensor)  # either is no number where an entry is none
    return math.isfinite(least) and math.isfinite(largest)


def is_sum_of_squares(matrix: Shaped[Tensor, ...]) -> bool:
    """Return whether Σ v vᵀ could be a matrix, or Σ v² a vector, as far as symmetry and the diagonal tell."""
    diagonal = matrix if matrix.ndim == 1 else matrix.diagonal()
    if not bool((diagonal >= 0).all()):
        return False
    roots = diagonal.sqrt()
    # Squares of tiny entries vanish where their products with large ones don't.
    least = torch.finfo(matrix.dtype).tiny ** 0.5 * float(roots.max())
    for start in range(0, len(matrix) if matrix.ndim == 2 else 0, _ROWS):
        band = slice(start, start + _ROWS)
        difference = (matrix[band, start:] - matrix[start:, band].mT).abs_()
        beyond = torch.addcmul(difference, roots[band, None], roots[start:], value=-_ASYMMETRY)
        if float(beyond.max()) > least:
            return False
    return True


def _fault_of_whole(statistics: Statistics) -> str | None:
    """What no layer by itself shows."""
    if not _is_count(statistics.examples, 1):
        return f"the number of examples is {statistics.examples!r}"
    if not isinstance(statistics.loss_sum, int | float) or not math.isfinite(statistics.loss_sum):
        return f"the sum of the losses is {statistics.loss_sum!r}"
    if statistics.population_size is not None and not _is_count(statistics.population_size, 1):
        return f"the population size is {statistics.population_size!r}"
    signature = statistics.model.signature
    if signature.ndim != 1 or not len(signature) or not signature.is_floating_point():
        return "they don't say which model they are of (their signature is empty): collect them anew"
    if not is_finite(signature):
        return "the signature of their model is not finite"
    fault = _fault_of_half(statistics)
    if fault is not None:
        return fault
    for name in statistics.layers:
        group = statistics.input_groups.get(name)
        if group not in statistics.input_sums or name not in statistics.output_sums or name not in statistics.tokens:
            return f"layer {name} lacks a sum or its count of tokens"
        if statistics.tokens.get(group, statistics.tokens[name]) != statistics.tokens[name]:
            return f"layers {name} and {group} share their input, but not their number of tokens"
    unknown = (statistics.tokens.keys() | set(statistics.wholly_counted)) - statistics.gradient_sums.keys()
    return f"there is no gradient of {min(unknown)}" if unknown else None


def _fault_of_half(statistics: Statistics) -> str | None:
    """Why what is kept of half of the examples can't be a part of the sums."""
    half = statistics.half
    if not _is_count(half.examples, 0) or half.examples > statistics.examples:
        return f"the number of examples in one half of {statistics.examples} is {half.examples!r}"
    for name, tensor in half.gradient_sums.items():
        whole = statistics.gradient_sums.get(name)
        if whole is None or tensor.shape != whole.shape or tensor.dtype != whole.dtype:
            return f"the gradient of one half of the examples is not like that of all, in layer {name}"
        if not is_finite(tensor):
            return f"the gradient of one half of the examples is not finite in layer {name}"
    return None


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least

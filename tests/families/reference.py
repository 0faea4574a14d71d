"""The sums by plain autograd: single unpadded examples, or the batch as it is where the model sees its padding.

Nothing here is shared with the library. Shapes: a layer's rows are (n, d); its input a, its output gradient g.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from families.family import Example, Family


@dataclass
class Seen:
    """What autograd saw of one call of the model.

    Attributes:
        loss: The summed loss of its examples.
        gradients: Each layer's weight gradient, (d_out, d_in).
        experts: The gradients of each expert's part of a stacked parameter, by its name and index.
        calls: For each layer, its inputs and output gradients, as they were shaped, call by call.
    """

    loss: float = 0.0
    gradients: dict[str, Tensor] = field(default_factory=dict)
    experts: dict[str, Tensor] = field(default_factory=dict)
    calls: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)


@dataclass
class Sums:
    """The sums over some rows of one layer: Σ a aᵀ, the diagonal of Σ g gᵀ, and how many."""

    inputs: Tensor
    outputs: Tensor
    tokens: int


@dataclass
class Truth:
    """What the library's statistics should be.

    Attributes:
        loss: The sum over the examples.
        gradients: By layer.
        experts: Of parts of stacked parameters, as these lie there, (d_out, d_in) or (d_in, d_out).
        counted: The sums over the rows that are no padding, by layer; where the model sees its padding, the sums for
            padding on either side, since an encoder and a decoder can be padded differently.
        everything: The sums over all rows of the batch, by layer.
        padding_seen: Whether the model's outputs depend on the padding, so that the batch itself is the truth.
        bypassed: Layers whose weight is also used without calling the layer.
    """

    loss: float
    gradients: dict[str, Tensor]
    experts: dict[str, Tensor]
    counted: dict[str, list[Sums]]
    everything: dict[str, Sums]
    padding_seen: bool
    bypassed: set[str]


def linear_names(model: nn.Module) -> list[str]:
    """All linear layers, the output head included."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    ]


def expert_names(model: nn.Module) -> list[str]:
    """All parameters that hold the weights of several experts."""
    return [name for name, parameter in model.named_parameters() if parameter.ndim == 3 and "expert" in name]


def loss_of(family: Family, model: nn.Module, batch: Example, labels: float) -> Tensor:
    """The sum of the examples' losses: the model's own mean, times what it runs over."""
    if family.own_loss is not None:
        return family.own_loss(model(**{k: v for k, v in batch.items() if "labels" not in k}), batch)
    loss: Tensor = model(**batch).loss
    return loss * labels


def see(family: Family, model: nn.Module, batch: Example, labels: float) -> Seen:
    """Run a model that :func:`_untied` made forward and backward on a batch."""
    seen, handles = Seen(), []
    modules: dict[str, Any] = {name: model.get_submodule(name) for name in linear_names(model)}
    experts = {name: model.get_parameter(name) for name in expert_names(model)}
    for weight in (*(module.weight for module in modules.values()), *experts.values()):
        weight.grad = None
    for name, module in modules.items():

        def keep(_module: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name) -> Any:
            a = (args[0] if args else next(iter(kwargs.values()))).detach().clone()
            first = output[0] if isinstance(output, tuple) else output
            if first.requires_grad:
                first.register_hook(lambda g: seen.calls.setdefault(name, []).append((a, g.detach().clone())))
            return output.clone() if output is first else output  # the model may write into it

        handles.append(module.register_forward_hook(keep, with_kwargs=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = loss_of(family, model, batch, labels)
    loss.backward()
    for handle in handles:
        handle.remove()
    seen.loss = float(loss.detach())
    for name, module in modules.items():
        gradient = module.weight.grad
        if gradient is not None:
            seen.gradients[name] = gradient.T if type(module).__name__ == "Conv1D" else gradient
    for name, parameter in experts.items():
        for index, gradient in enumerate(() if parameter.grad is None else parameter.grad):
            seen.experts[f"{name}.{index}"] = gradient
    return seen


def _untied(model: nn.Module) -> nn.Module:
    """A copy that can be trained, whose linear layers' weights are tied to nothing."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for name in linear_names(model):
        module: Any = model.get_submodule(name)
        module.weight = nn.Parameter(module.weight.detach().clone())
    for name in expert_names(model):
        model.get_parameter(name).requires_grad_(True)
    return model


def sums_of(calls: Sequence[tuple[Tensor, Tensor]]) -> Sums:
    """The sums over all rows of some calls."""
    a = torch.cat([a.flatten(0, -2) for a, _ in calls]).double()
    g = torch.cat([g.flatten(0, -2) for _, g in calls]).double()
    return Sums(a.T @ a, g.square().sum(0), len(a))


def truths_of(family: Family, model: nn.Module, examples: Sequence[Example], side: str) -> list[Truth]:
    """What the statistics of the examples as one batch, padded on a side, should be.

    There is one truth where the model ignores its padding, if need be with position ids that start behind it. Where it
    does not, those of the batch with and without such position ids are equally good.

    Raises:
        ValueError: The model gives no finite loss for the batch.
    """
    model = _untied(model)
    examples = [family.cast(example) for example in examples]
    batch = family.batch_of(examples, side)
    labels = sum(family.labels(example) for example in examples)
    called = [see(family, model, batch, labels)]
    if side == "left" and "attention_mask" in batch and "position_ids" not in batch:
        with suppress(TypeError, RuntimeError):
            called.append(see(family, model, _with_positions(batch), labels))
    called = [together for together in called if _finite(together)]
    if not called:
        raise ValueError("its own gradients are not finite")
    alone = [see(family, model, e, family.labels(e)) for e in examples]
    singly = _added(alone)  # of coupled examples the shapes alone are of use
    agreeing = [
        together
        for together in called
        if not family.couples_examples and distance(together.gradients, singly.gradients) <= 1e-4
    ]
    if agreeing:
        counted = {name: [sums_of(calls)] for name, calls in singly.calls.items()}
        # A pooling may mix padding into rows that the loss does not reach, so that only these differ from those alone.
        for name, sums in _counted(agreeing[0], alone, [side]).items():
            counted.setdefault(name, []).extend(sums)
        return [_truth(singly, agreeing[0], counted, padding_seen=False)]
    return [
        _truth(together, together, _counted(together, alone, [side, "right"]), padding_seen=True) for together in called
    ]


def _finite(seen: Seen) -> bool:
    return all(bool(gradient.isfinite().all()) for gradient in seen.gradients.values()) and math.isfinite(seen.loss)


def _counted(together: Seen, alone: Sequence[Seen], sides: Sequence[str]) -> dict[str, list[Sums]]:
    counted: dict[str, list[Sums]] = {}
    for name, calls in together.calls.items():
        for this in dict.fromkeys(sides):
            selected = _rows_alone(calls, [one.calls.get(name, []) for one in alone], this) if alone else calls
            if selected is not None:
                counted.setdefault(name, []).append(sums_of(selected))
    return counted


def _truth(truth: Seen, together: Seen, counted: dict[str, list[Sums]], *, padding_seen: bool) -> Truth:
    bypassed = {
        name
        for name, gradient in truth.gradients.items()
        if name not in truth.calls or _off(_outer(truth.calls[name]), gradient) > 1e-4
    }
    everything = {name: sums_of(calls) for name, calls in together.calls.items()}
    return Truth(truth.loss, truth.gradients, truth.experts, counted, everything, padding_seen, bypassed)


def _with_positions(batch: Example) -> Example:
    return batch | {"position_ids": (batch["attention_mask"].long().cumsum(1) - 1).clamp(min=0)}


def _added(seen: Sequence[Seen]) -> Seen:
    whole = Seen()
    for part in seen:
        whole.loss += part.loss
        for own, parts in ((whole.gradients, part.gradients), (whole.experts, part.experts)):
            for name, gradient in parts.items():
                own[name] = own[name] + gradient if name in own else gradient
        for name, calls in part.calls.items():
            whole.calls.setdefault(name, []).extend(calls)
    return whole


def _rows_alone(
    calls: Sequence[tuple[Tensor, Tensor]], alone: Sequence[Sequence[tuple[Tensor, Tensor]]], side: str
) -> list[tuple[Tensor, Tensor]] | None:
    """The rows of a batch's calls that the examples have by themselves, told by the shapes of both; None if unclear."""
    if any(len(own) != len(calls) for own in alone):
        return None
    selected = []
    for index, call in enumerate(calls):
        parts = _parts_alone(call[0].shape[:-1], [own[index][0].shape[:-1] for own in alone], side)
        if parts is None:
            return None
        for part in parts:
            a, g = (tensor.reshape(*part.view, -1)[part.slices] for tensor in call)
            selected.append((a.reshape(1, -1, a.shape[-1]), g.reshape(1, -1, g.shape[-1])))
    return selected


@dataclass
class _Part:
    """One example's part of a batch's rows: how the rows are laid out, and its place among them."""

    view: tuple[int, ...]
    slices: tuple[slice, ...]


def _parts_alone(shape: Sequence[int], alone: Sequence[Sequence[int]], side: str) -> list[_Part] | None:
    """The examples' parts of a batch's rows, told from the shapes that these have by themselves."""
    count = len(alone)
    if any(len(one) != len(shape) for one in alone):
        return None
    varying = [axis for axis in range(len(shape)) if len({one[axis] for one in alone}) > 1]
    if len(varying) > 1:
        return None
    view, own = list(shape), [list(one) for one in alone]
    batch = next(
        (axis for axis, size in enumerate(shape) if axis not in varying and size == count * own[0][axis]), None
    )
    if batch is None:  # all rows in one list, example after example
        if len(shape) != 1 or shape[0] != count * max(one[0] for one in own):
            return None
        view, own, batch, varying = [count, shape[0] // count], [[1, *one] for one in own], 0, [1]
    parts = []
    for number, one in enumerate(own):
        slices = [slice(0, size) for size in one]
        slices[batch] = slice(number * one[batch], (number + 1) * one[batch])
        for axis in varying:
            start = 0 if side == "right" else view[axis] - one[axis]
            slices[axis] = slice(start, start + one[axis])
        parts.append(_Part(tuple(view), tuple(slices)))
    return parts


def _outer(calls: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    return sum((g.flatten(0, -2).T @ a.flatten(0, -2) for a, g in calls), torch.zeros((), dtype=calls[0][0].dtype))


def _off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-12))


def distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest relative distance of two sets of gradients, beside the largest gradient's 1e-9."""
    if found.keys() != wanted.keys():
        return float("inf")
    floor = 1e-9 * max((float(gradient.norm()) for gradient in wanted.values()), default=0.0)
    return max(
        (float((found[name] - wanted[name]).norm()) / max(float(wanted[name].norm()), floor, 1e-30) for name in wanted),
        default=0.0,
    )

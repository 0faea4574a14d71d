"""The sums by another way: one unpadded example at a time, in float64, with autograd's own tensors and hooks.

Nothing here is shared with the library but the class of its sums.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lora_da import Statistics
from models import Example


@dataclass
class ReferenceSums:
    gradients: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)  # full matrices
    tokens: dict[str, int] = field(default_factory=dict)
    weight_gradients: dict[str, Tensor] = field(default_factory=dict)  # (d_out, d_in), made by autograd
    loss: float = 0.0


def loss_of(logits: Tensor, labels: Tensor, task: str, reduction: str) -> Tensor:
    """The loss of one example from (L, V) or (C,) logits, token by token."""
    log_probabilities = torch.log_softmax(logits.double(), -1)
    if task == "example":
        return -log_probabilities[int(labels)]
    terms = []
    for position, label in enumerate(labels.tolist()):
        if label != -100 and not (task == "causal" and position == 0):
            terms.append(-log_probabilities[position - 1 if task == "causal" else position, label])
    total = torch.stack(terms).sum()
    return total / len(terms) if reduction == "mean" else total


def reference_sums(
    model: nn.Module,
    examples: Sequence[Example],
    layers: Sequence[str],
    task: str,
    *,
    reduction: str = "sum",
) -> ReferenceSums:
    """Loop over single examples. ``task`` is "causal", "translation" or "example"."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    modules = {name: model.get_submodule(name) for name in layers}
    sums = ReferenceSums()
    for example in examples:
        seen: list[tuple[str, Tensor, Tensor]] = []

        def keep(name: str, seen: list[tuple[str, Tensor, Tensor]] = seen) -> Any:
            def hook(_module: nn.Module, args: tuple[Tensor, ...], result: Tensor) -> None:
                result.retain_grad()
                seen.append((name, args[0].detach(), result))

            return hook

        handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
        inputs = {
            key: (value.double() if value.is_floating_point() else value)[None]
            for key, value in example.items()
            if key != "labels"
        }
        labels = example["labels"]
        if task == "translation":
            inputs["decoder_input_ids"] = torch.cat([torch.tensor([0]), labels[:-1]])[None]
        loss = loss_of(model(**inputs).logits[0], labels, task, reduction)
        loss.backward()
        sums.loss += float(loss.detach())
        for handle in handles:
            handle.remove()
        for name, layer_input, output in seen:
            if output.grad is None:
                continue
            a, g = layer_input.flatten(0, -2), output.grad.flatten(0, -2)
            _add(sums.gradients, name, torch.einsum("to,ti->oi", g, a))
            _add(sums.inputs, name, sum((torch.outer(row, row) for row in a), torch.zeros(())))
            _add(sums.outputs, name, sum((torch.outer(row, row) for row in g), torch.zeros(())))
            sums.tokens[name] = sums.tokens.get(name, 0) + len(a)
    for name, module in modules.items():
        gradient = module.get_parameter("weight").grad
        if gradient is not None:
            sums.weight_gradients[name] = gradient.T if type(module).__name__ == "Conv1D" else gradient
    return sums


def _add(sums: dict[str, Tensor], name: str, addend: Tensor) -> None:
    sums[name] = sums[name] + addend if name in sums else addend


def distance(found: Tensor, wanted: Tensor) -> float:
    """Relative Frobenius distance."""
    found, wanted = found.detach().double(), wanted.detach().double()
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-300))


def assert_sums_agree(found: Statistics, wanted: Statistics, tolerance: float) -> None:
    """Every sum of every layer, by its relative distance."""
    assert found.layers == wanted.layers
    for name in wanted.layers:
        for part in ("gradient_sum", "input_sum", "output_sum"):
            assert distance(getattr(found[name], part), getattr(wanted[name], part)) <= tolerance, (name, part)


def assert_gradients_agree(found: Statistics, model: nn.Module, losses: Callable[[Any], Sequence[Tensor]]) -> None:
    """Compare the losses and gradients with autograd's own, of a copy in float64 and one example's loss at a time."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    values = losses(model)
    torch.stack(list(values)).sum().backward()
    assert found.examples == len(values)
    assert abs(found.loss_sum - float(sum(value.detach() for value in values))) < 1e-5 * abs(found.loss_sum)
    assert found.layers
    for name in found.layers:
        gradient = model.get_submodule(name).get_parameter("weight").grad
        assert gradient is not None, name
        assert distance(found.gradient_sums[name], gradient) < 1e-5, name

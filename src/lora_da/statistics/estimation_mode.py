"""A model set up for estimation, and put back exactly as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def estimation_mode(model: nn.Module) -> Iterator[None]:
    """Freeze every parameter and switch dropout off; restore all of it at the end, whatever happens.

    Gradient checkpointing stays on where it was: it acts only on modules in training mode, so those that checkpoint
    keep that mode, with their dropout rates at zero, those in their configuration too, while their children are in
    evaluation mode. Compiled models run uncompiled, since a compiled graph need not call hooks. So do torch's own
    encoder layers, whose fused kernel reads weights without calling the layers that hold them. 4-bit layers of
    bitsandbytes are in training mode, since in evaluation mode some CPUs repack their weights for good, after which no
    gradient passes through them.

    Raises:
        ValueError: The weights of a 4-bit layer have been repacked already.
    """
    four_bit = {module: state for module in model.modules() if (state := _quantisation_of(module)) is not None}
    if any(getattr(state, "packing_format_for_cpu", False) for state in four_bit.values()):
        raise ValueError(
            "bitsandbytes has repacked the 4-bit weights of this model for inference on the CPU, so that no gradient "
            "passes through them: call model.state_dict() once, which undoes that, or load the model anew"
        )
    training = {module: module.training for module in model.modules()}
    required_grad = {parameter: parameter.requires_grad for parameter in model.parameters()}
    rates: list[tuple[Any, str, float]] = []
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        model.requires_grad_(False)
        for module in four_bit:
            module.training = True
        for module, was_training in training.items():
            if was_training and getattr(module, "gradient_checkpointing", False):
                module.training = True  # of this module alone: train() would reach its children
                rates += _dropout_rates(module)
        for owner, name, _ in rates:
            setattr(owner, name, 0.0)
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            # Checkpointing says so of every run that is for outputs alone.
            warnings.filterwarnings("ignore", "None of the inputs have requires_grad=True")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for owner, name, value in reversed(rates):  # a configuration that several share was at zero the second time
            setattr(owner, name, value)
        for module, was_training in training.items():
            module.training = was_training
        for parameter, required in required_grad.items():
            parameter.requires_grad_(required)


def _dropout_rates(module: nn.Module) -> list[tuple[Any, str, float]]:
    """The rates that a module reads when it is called: who holds each, under which name, and its value."""
    owners: list[Any] = [module]
    if hasattr(module, "config"):
        owners.append(module.config)
    return [
        (owner, name, value)
        for owner in owners
        for name, value in vars(owner).items()
        if "drop" in name and isinstance(value, float)
    ]


def _quantisation_of(module: nn.Module) -> Any:
    return getattr(getattr(module, "weight", None), "quant_state", None)


@contextmanager
def embeddings_with_gradient(model: nn.Module) -> Iterator[None]:
    """Let what a model computes first require a gradient, without which reentrant checkpointing has nothing to do.

    Such checkpointing runs a block for its gradient only if one of the block's inputs requires one, and all parameters
    are frozen. So every module without children that has parameters, such as an embedding or a convolution, gives an
    output that does.
    """

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not torch.is_grad_enabled() or not output.is_floating_point():
            return output
        # A copy of what starts the graph, since models change such outputs in place, which a leaf of the graph forbids.
        return output.requires_grad_(True).clone() if output.is_leaf else output

    if not any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        yield
        return
    with ExitStack() as hooks:
        for module in model.modules():
            if not any(True for _ in module.children()) and any(True for _ in module.parameters()):
                hooks.callback(module.register_forward_hook(hook).remove)
        yield

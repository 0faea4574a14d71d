"""A model set up for estimation, and put back exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def estimation_mode(model: nn.Module) -> Iterator[None]:
    """Freeze every parameter and switch dropout off; restore all of it at the end, whatever happens.

    Gradient checkpointing stays on where it was: it acts only on modules in training mode, so those that checkpoint
    keep that mode, with their dropout rates at zero, while their children are in evaluation mode. Compiled models run
    uncompiled, since a compiled graph need not call hooks. 4-bit layers of bitsandbytes are in training mode, since in
    evaluation mode some CPUs repack their weights for good, after which no gradient passes through them.

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
    rates: list[tuple[nn.Module, str, float]] = []
    try:
        model.eval()
        model.requires_grad_(False)
        for module in four_bit:
            module.training = True
        for module, was_training in training.items():
            if was_training and getattr(module, "gradient_checkpointing", False):
                module.training = True  # of this module alone: train() would reach its children
                for name, value in vars(module).items():
                    if "drop" in name and isinstance(value, float):
                        rates.append((module, name, value))
        for module, name, _ in rates:
            setattr(module, name, 0.0)
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, name, value in rates:
            setattr(module, name, value)
        for module, was_training in training.items():
            module.training = was_training
        for parameter, required in required_grad.items():
            parameter.requires_grad_(required)


def _quantisation_of(module: nn.Module) -> Any:
    return getattr(getattr(module, "weight", None), "quant_state", None)


@contextmanager
def embeddings_with_gradient(model: Any) -> Iterator[None]:
    """Let the embeddings' output require a gradient, without which reentrant checkpointing has nothing to do."""
    embeddings = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None

    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and torch.is_grad_enabled() and output.is_floating_point():
            output.requires_grad_(True)

    if embeddings is None or not any(getattr(m, "gradient_checkpointing", False) for m in model.modules()):
        yield
        return
    handle = embeddings.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()

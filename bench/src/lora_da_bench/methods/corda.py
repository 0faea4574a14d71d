"""CorDA: the adapter is the part of the base weight that the inputs' covariance weighs most (arXiv 2406.05223)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.config import CordaConfig
from torch import Tensor, nn

from lora_da_bench.methods.adapters import add_adapter, move_batches, name_layers
from lora_da_bench.methods.method import Method, Setup


def _initialise(setup: Setup) -> nn.Module:
    try:
        from peft.tuners.lora.corda import preprocess_corda
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "PEFT's CorDA needs a package that PEFT does not declare: pip install attrs", name=error.name
        ) from error
    layers, config = name_layers(setup, init_lora_weights="corda", corda_config=CordaConfig(corda_method="ipm"))

    def run_model() -> None:
        # PEFT's hook takes one example at a time, and would count padding as text.
        for batch in move_batches(setup):
            inputs = {key: value for key, value in batch.items() if key != "labels"}
            masks = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
            for row, mask in enumerate(masks):
                setup.model(**{key: value[row, mask][None] for key, value in inputs.items()})

    with _examples_kept(setup.model, list(layers)):
        preprocess_corda(setup.model, config, run_model=run_model)
    return add_adapter(dataclasses.replace(setup, lora=config))


@contextmanager
def _examples_kept(model: nn.Module, names: list[str]) -> Iterator[None]:
    """Give an input of one row (1, d_in), such as that of BERT's pooler, a dimension for PEFT's hook to squeeze out."""
    lengthened: set[nn.Module] = set()

    def lengthen(module: nn.Module, args: tuple[Tensor, ...]) -> Any:
        if args[0].ndim == 2 and len(args[0]) == 1:
            lengthened.add(module)
            return args[0][None]
        return None

    def shorten(module: nn.Module, _args: Any, output: Tensor) -> Any:
        if module in lengthened:
            lengthened.remove(module)
            return output[0]
        return None

    handles = [model.get_submodule(name).register_forward_pre_hook(lengthen) for name in names]
    handles += [model.get_submodule(name).register_forward_hook(shorten) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


METHODS = (
    Method(
        "corda",
        "CorDA by PEFT, in its instruction-previewed mode: with C the inputs' covariance and W·C = U·S·Vᵀ, s·B·A is "
        "the top r part of U·S·Vᵀ·C⁻¹, and the base keeps the rest (arXiv 2406.05223)",
        _initialise,
        uses_data=True,
    ),
)

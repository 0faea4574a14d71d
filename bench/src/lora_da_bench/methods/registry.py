"""The methods by name, each of them also with A frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from torch import nn

from lora_da import freeze_a
from lora_da_bench.experiment.validation import nearest_name
from lora_da_bench.methods import controls, corda, eva, lora, lora_da, lora_ga, lora_one, pissa
from lora_da_bench.methods.method import Method, Setup

METHODS: dict[str, Method] = {}


def register_method(method: Method) -> None:
    """Make a method known by its name.

    Raises:
        ValueError: The name is taken, or has a "+", which separates the modifier.
    """
    if method.name in METHODS:
        raise ValueError(f"there is a method {method.name!r} already")
    if "+" in method.name:
        raise ValueError(f'the name {method.name!r} has a "+", which separates the modifier')
    METHODS[method.name] = method


for _family in (lora, pissa, eva, corda, lora_ga, lora_one, lora_da, controls):
    for _method in _family.METHODS:
        register_method(_method)

_FROZEN = "+frozen-a"


def get_method(spec: str) -> Method:
    """Get the method that a name stands for, such as ``lora-da`` or ``lora-da+frozen-a``.

    Args:
        spec: A registered name; "+frozen-a" behind it leaves A untrained (LoRA-FA).

    Returns:
        The method, named as it was asked for.

    Raises:
        ValueError: The name or what stands behind it is unknown.
    """
    name, plus, modifier = spec.partition("+")
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; {nearest_name(name, METHODS)}")
    method = METHODS[name]
    if not plus:
        return method
    if plus + modifier != _FROZEN:
        raise ValueError(f"there is no modifier {modifier!r} of methods; there is frozen-a")
    return dataclasses.replace(
        method,
        name=spec,
        description=f"{method.description}; A is not trained (LoRA-FA)",
        initialise=partial(_freeze_a, method.initialise),
    )


def _freeze_a(initialise: Callable[[Setup], nn.Module], setup: Setup) -> nn.Module:
    model = initialise(setup)
    freeze_a(model)
    return model

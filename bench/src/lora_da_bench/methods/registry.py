"""The methods by name, and the modifiers that can be added to a name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import partial

from torch import nn

from lora_da_bench.methods import (
    controls,
    corda,
    eva,
    lora_da,
    lora_ga,
    lora_one,
    milora,
    olora,
    peft_random,
    pissa,
)
from lora_da_bench.methods.method import Method, Setup

METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Make a method known by its name.

    Raises:
        ValueError: The name is taken, or has a "+", which separates modifiers.
    """
    if method.name in METHODS:
        raise ValueError(f"there is a method {method.name!r} already")
    if "+" in method.name:
        raise ValueError(f'the name {method.name!r} has a "+", which separates modifiers')
    METHODS[method.name] = method


for _family in (peft_random, pissa, olora, milora, eva, corda, lora_ga, lora_one, lora_da, controls):
    for _method in _family.METHODS:
        register(_method)


def _with_frozen_a(initialise: Callable[[Setup], nn.Module], setup: Setup) -> nn.Module:
    model = initialise(setup)
    for name, parameter in model.named_parameters():
        if "lora_A." in name:
            parameter.requires_grad_(False)
    return model


def _with_rslora(initialise: Callable[[Setup], nn.Module], setup: Setup, *, use: bool) -> nn.Module:
    lora = dataclasses.replace(copy.deepcopy(setup.lora), use_rslora=use)
    return initialise(dataclasses.replace(setup, lora=lora))


# What each does to a description and to ``initialise``.
_MODIFIERS: dict[str, tuple[str, Callable[..., nn.Module]]] = {
    "frozen-a": ("A is not trained (LoRA-FA)", _with_frozen_a),
    "rslora": ("scaled by alpha/√r", partial(_with_rslora, use=True)),
    "no-rslora": ("scaled by alpha/r", partial(_with_rslora, use=False)),
}


def get_method(spec: str) -> Method:
    """The method that a name with modifiers stands for, such as ``lora-da+frozen-a``.

    Args:
        spec: A registered name, then modifiers, each after a "+": "frozen-a" leaves A untrained, "rslora" and
            "no-rslora" choose the scaling.

    Returns:
        The method, named as it was asked for.

    Raises:
        ValueError: The name or a modifier is unknown, the modifiers contradict or repeat each other, or full
            fine-tuning is given one.
    """
    name, *modifiers = spec.split("+")
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    for modifier in modifiers:
        if modifier not in _MODIFIERS:
            raise ValueError(f"there is no modifier {modifier!r}; there are {', '.join(_MODIFIERS)}")
    if len(set(modifiers)) < len(modifiers) or {"rslora", "no-rslora"} <= set(modifiers):
        raise ValueError(f"the modifiers of {spec!r} repeat or contradict each other")
    if modifiers and name == "full":
        raise ValueError("full fine-tuning has no adapter, and takes no modifier")
    method = METHODS[name]
    for modifier in modifiers:
        does, change = _MODIFIERS[modifier]
        description = f"{method.description}; {does}"
        method = dataclasses.replace(method, description=description, initialise=partial(change, method.initialise))
    return dataclasses.replace(method, name=spec)

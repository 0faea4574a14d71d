"""Whether every name in an adapter's configuration means something in the model: PEFT is content if one does."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn

_ALL_LINEAR = "all-linear"
# PEFT adds both to modules_to_save for classifiers, each of which has one.
_HEADS = {"classifier", "score"}


def check_target_names(base: nn.Module, config: Any) -> None:
    """Refuse a configuration with a name that no layer has, so that less is adapted than was asked for.

    Regular expressions for ``target_modules`` are PEFT's to judge, and so are the names that it chooses where none are
    given.

    Args:
        base: The model without PEFT's wrapper, adapted already or not yet.
        config: The adapter's ``LoraConfig``.

    Raises:
        ValueError: There is such a name; the message tells the nearest one.
    """
    modules = [_plain(name) for name, _ in base.named_modules()]
    layers = [
        _plain(name) for name, module in base.named_modules() if hasattr(module, "weight") and ".lora_" not in name
    ]
    parameters = [_plain(name) for name, _ in base.named_parameters()]
    targets = config.target_modules
    if not isinstance(targets, str) and set(targets or ()) != _chosen_by_peft(base):
        _check("target_modules", targets, modules, layers)
    _check("target_parameters", getattr(config, "target_parameters", None), parameters, parameters)
    indices = getattr(config, "layers_to_transform", None)
    blocks = [name for name in modules if name.rpartition(".")[2].isdigit()]
    _check("layers_to_transform", map(str, [indices] if isinstance(indices, int) else indices or ()), blocks, blocks)
    for field in ("exclude_modules", "modules_to_save"):
        names = getattr(config, field, None)
        if not isinstance(names, str):
            _check(field, set(names or ()) - _HEADS, modules, layers)
    for field in ("rank_pattern", "alpha_pattern"):
        _check(field, getattr(config, field, None), [*modules, *parameters], layers, patterns=True)


def _check(
    field: str, names: Iterable[str] | None, found: list[str], meant: list[str], *, patterns: bool = False
) -> None:
    """Match names as PEFT does: with the ends of ``found``, from a dot on; patterns may be regular expressions."""
    for name in sorted(names or ()):
        end = re.compile(rf"(.*\.)?({name if patterns else re.escape(name)})$")
        if any(end.match(other) for other in found):
            continue
        if name.lower() == _ALL_LINEAR:
            raise ValueError(
                f"{field} has {name!r} among other names, where PEFT does not know it: give it alone, as "
                f"target_modules={_ALL_LINEAR!r}, or the names alone"
            )
        depths = {1, name.count(".") + 1}
        ends = {
            end.lower(): end for other in meant for depth in depths for end in [".".join(other.split(".")[-depth:])]
        }
        ends[_ALL_LINEAR] = _ALL_LINEAR
        nearest = difflib.get_close_matches(name.lower(), sorted(ends), 1)
        there = ", ".join(
            sorted(end for end in ends.values() if "." not in end and (name.isdigit() or not _of_peft(end)))[:12]
        )
        advice = f"did you mean {ends[nearest[0]]!r}?" if nearest else f"the model has {there}"
        raise ValueError(
            f"{field} has the name {name!r}, which nothing in the model has, so that other layers would be adapted "
            f"than were asked for; {advice}"
        )


def _of_peft(name: str) -> bool:
    """Whether it is the name of a part that PEFT adds, or of a block."""
    return name.isdigit() or name in (_ALL_LINEAR, "default", "original_module", "modules_to_save")


def _plain(name: str) -> str:
    """The name that a module or parameter has without an adapter."""
    return name.replace(".base_layer", "")


def _chosen_by_peft(base: nn.Module) -> set[str]:
    """The names that PEFT takes where none are given, which it keeps for several architectures at once."""
    kind = getattr(getattr(base, "config", None), "model_type", "")
    return set(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, ()))

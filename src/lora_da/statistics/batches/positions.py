"""Whether a model has to be told its tokens' positions where examples are padded on the left."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.inputs import prepare_inputs
from lora_da.statistics.batches.padding.axis import find_axes
from lora_da.statistics.batches.padding.part import take_part
from lora_da.statistics.batches.padding.probe import Agree
from lora_da.system.random_state import preserve_random_state

_ADDED = 3


class PositionCheck:
    """Finds out whether position ids have to be derived from the mask, so that left and right padding agree.

    They are derived where a model's outputs with more padding on the left are the same with them as without the
    padding. A model that makes its own, on several axes or from the padding id, is none of those.
    """

    def __init__(self, model: nn.Module, entry: nn.Module, device: torch.device, agree: Agree = bool) -> None:
        """Prepare for a base model, of which ``entry`` is called with inputs on the device."""
        self._model, self._entry, self._device, self._agree = model, entry, device, agree
        self._derived: dict[tuple[str, ...], bool] = {}

    def needed(self, batch: Mapping[str, Any]) -> bool:
        """Tell whether position ids are to be derived for a batch, by running the model unless such a one was seen."""
        mask = batch.get("attention_mask")
        possible = (
            isinstance(mask, Tensor)
            and mask.ndim == 2
            and _takes_positions(self._model)
            and batch.get("position_ids") is None
            and not bool(mask[:, 0].all())
        )
        kind = tuple(sorted(batch))
        if self._agree(possible and kind not in self._derived):
            self._derived[kind] = self._try(batch)
        return possible and self._derived[kind]

    def _try(self, batch: Mapping[str, Any]) -> bool:
        """Whether derived position ids make up for more padding on the left."""
        axes = find_axes(self._model, batch, None)
        batch, axes = take_part(batch, axes) or (batch, axes)
        axis = next((one for one in axes if one.name == "input"), None)
        if axis is None:
            return False
        spare = int((~axis.mask.any(0)).sum())
        batch = axis.shortened(batch, spare)
        mask = axis.mask[:, spare:]
        unpadded = int(mask.sum(1).argmax())
        added = min(_ADDED, spare) or _ADDED
        try:
            padded = self._outputs(axis.lengthened(batch, added), unpadded, positions=True)
        except (ValueError, IndexError, RuntimeError, TypeError):  # the last one where it does not take them after all
            return False
        plain = self._outputs(batch, unpadded, positions=False)
        return len(plain) == len(padded) > 0 and all(map(_nearly_equal, plain, padded))

    def _outputs(self, batch: Mapping[str, Any], example: int, *, positions: bool) -> list[Tensor]:
        """What the model makes of an example, at its end: that of the padding is left out."""
        inputs = prepare_inputs(self._model, batch, self._device, positions=positions)
        if "logits_to_keep" in inspect.signature(self._model.forward).parameters:
            inputs["logits_to_keep"] = 1
        rows = len(batch["attention_mask"])
        with preserve_random_state(), torch.no_grad():
            output = self._entry(**inputs)
        values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else [output]
        kept = [value for value in values if isinstance(value, Tensor) and value.is_floating_point() and value.ndim]
        return [value[example] if value.ndim < 3 else value[example, -1:] for value in kept if len(value) == rows]


def _takes_positions(model: nn.Module) -> bool:
    """Whether a model has an argument for them, or gives what it does not know to an encoder inside."""
    accepted = inspect.signature(model.forward).parameters
    return "position_ids" in accepted or any(one.kind is one.VAR_KEYWORD for one in accepted.values())


def _nearly_equal(one: Tensor, other: Tensor) -> bool:
    one, other = one.flatten(), other.flatten()
    length = min(len(one), len(other))  # scores of each token: the text's stand behind the padding
    one, other = one[-length:], other[-length:]
    epsilon: float = torch.finfo(one.dtype).eps
    change = (one.double() - other.double()).norm()
    return bool(change <= 4 * epsilon**0.5 * one.double().norm())

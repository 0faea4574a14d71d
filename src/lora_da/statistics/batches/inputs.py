"""What a frozen base model is called with: a batch without its labels, and what can be derived from it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.segments import BOUNDARIES

_LABELS = ("labels", "label", "label_ids")


def prepare_inputs(model: nn.Module, batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Make the arguments of one call of a base model: the batch without labels, on the device, and what can be derived.

    Position ids are derived from the mask where examples are padded on the left, so that left and right padding agree;
    a decoder's inputs from the labels, as transformers does.

    Raises:
        ValueError: The mask is not one of zeros and ones.
    """
    inputs: dict[str, Any] = {
        key: value.to(device) if isinstance(value, Tensor) else value
        for key, value in batch.items()
        if key not in _LABELS
    }
    mask = inputs.get("attention_mask")
    if mask is not None and (mask.ndim != 2 or bool((mask.long() > 1).any())):
        raise ValueError(
            "attention_mask must be (batch, length) of zeros and ones: masks that number packed examples, or that say "
            "for each pair of tokens whether one sees the other, are not supported; unpack the examples"
        )
    accepted = inspect.signature(model.forward).parameters
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    for key in BOUNDARIES:  # where a model does not take them, its packed examples are found not to be kept apart
        if key == "seq_lengths" or (key not in accepted and not takes_more):
            inputs.pop(key, None)
    derives_positions = any(hasattr(module, "create_position_ids_from_input_ids") for module in model.modules())
    takes_positions = "position_ids" in accepted and "position_ids" not in inputs and not derives_positions
    if takes_positions and mask is not None and not bool(mask[:, 0].all()):
        inputs["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and "decoder_input_ids" not in inputs:
        labels = find_labels(batch).to(device)
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=labels)  # type: ignore[operator]
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    return inputs


def find_labels(batch: Mapping[str, Any]) -> Tensor:
    """Find the labels of a batch, under any of the names that transformers' collators use.

    Raises:
        ValueError: There are none.
    """
    for key in _LABELS:
        if isinstance(batch.get(key), Tensor):
            labels: Tensor = batch[key]
            return labels
    raise ValueError(f"the batch has no labels; its keys are {list(batch)}")

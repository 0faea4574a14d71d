"""What a frozen base model is called with: a batch without its labels, and what can be derived from it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.segments import BOUNDARIES

_LABELS = ("labels", "label", "label_ids")


def prepare_inputs(
    model: nn.Module, batch: Mapping[str, Any], device: torch.device, *, positions: bool = False
) -> dict[str, Any]:
    """Make the arguments of one call of a base model: the batch without labels, on the device, and what can be derived.

    A decoder's inputs come from the labels, as the model makes them; a model without a method for that is given the
    labels themselves, and what it makes of them beside its logits is not used.

    Args:
        model: The base model.
        batch: The batch.
        device: Where its tensors go.
        positions: Whether position ids are derived from the mask, see
            :class:`lora_da.statistics.batches.positions.PositionCheck`.

    Raises:
        ValueError: The mask is not one of zeros and ones, or a decoder's labels are missing.
    """
    inputs: dict[str, Any] = {
        key: value.to(device) if isinstance(value, Tensor) else value
        for key, value in batch.items()
        if key not in _LABELS
    }
    mask = inputs.get("attention_mask")
    if mask is not None:
        _check_mask(mask, inputs.get("input_ids"))
    accepted = inspect.signature(model.forward).parameters
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    for key in BOUNDARIES:  # where a model does not take them, its packed examples are found not to be kept apart
        if key == "seq_lengths" or (key not in accepted and not takes_more):
            inputs.pop(key, None)
    if positions and mask is not None:
        inputs["position_ids"] = derive_positions(mask)
    if needs_decoder_inputs(model, inputs):
        labels = find_labels(batch).to(device)
        if labels.ndim == 2:  # others belong to examples, and the decoder reads what the encoder does
            make = getattr(model, "prepare_decoder_input_ids_from_labels", None)
            inputs |= {"labels": labels} if make is None else {"decoder_input_ids": make(labels=labels)}
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    return inputs


def derive_positions(mask: Tensor) -> Tensor:
    """Return position ids that start at an example's first token, (B, L)."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def needs_decoder_inputs(model: nn.Module, inputs: Mapping[str, Any]) -> bool:
    """Tell whether a model's decoder reads the labels of a batch without inputs of its own."""
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    accepted = inspect.signature(model.forward).parameters
    given = inputs.keys() & {"decoder_input_ids", "decoder_inputs_embeds"}
    return not given and "decoder_input_ids" in accepted and "labels" in accepted


def find_labels(batch: Mapping[str, Any]) -> Tensor:
    """Find the labels of a batch, under any of the names that transformers' collators use.

    Raises:
        ValueError: There are none.
    """
    for key in _LABELS:
        if isinstance(batch.get(key), Tensor):
            labels: Tensor = batch[key]
            return labels
    raise ValueError(
        f"the batch has no labels; its keys are {list(batch)}: give example_loss, a function of (model output, batch) "
        "that returns each example's loss, if others hold what is to be learnt"
    )


def _check_mask(mask: Tensor, ids: Any) -> None:
    of_choices = isinstance(ids, Tensor) and mask.shape == ids.shape
    if (mask.ndim != 2 and not of_choices) or bool(((mask != 0) & (mask != 1)).any()):
        raise ValueError(
            "attention_mask must have one entry a token, zero or one: masks that number packed examples, that are "
            "added to scores, or that say for each pair of tokens whether one sees the other, are not supported; "
            "unpack the examples"
        )

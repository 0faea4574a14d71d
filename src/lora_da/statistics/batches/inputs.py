"""From a loader's batches to what a frozen base model is called with."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

_PACKED = ("cu_seqlens", "cu_seq_lens_q", "cu_seq_lens_k", "seq_idx", "max_length_q", "max_length_k")


def take_examples(dataloader: Iterable[Any], max_examples: int) -> Iterator[dict[str, Any]]:
    """The first examples of a loader, batch by batch; the last batch is cut to reach the number exactly.

    Raises:
        TypeError: A batch is no mapping.
        ValueError: ``max_examples`` is not positive.
    """
    if max_examples < 1:
        raise ValueError(f"max_examples must be at least 1, not {max_examples}")
    left = max_examples
    for index, batch in zip(count(), dataloader, strict=False):
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"batch {index} of the data loader is a {type(batch).__name__}; a mapping of names such as input_ids, "
                "attention_mask and labels to tensors is needed"
            )
        size = batch_size(batch)
        if size > left:
            batch = {
                key: value[:left] if _has_one_entry_an_example(value, size) else value for key, value in batch.items()
            }
        yield dict(batch)
        left -= min(size, left)
        if left == 0:
            return


def _has_one_entry_an_example(value: Any, size: int) -> bool:
    if isinstance(value, Tensor):
        return value.ndim > 0 and len(value) == size
    return isinstance(value, list | tuple) and len(value) == size


def dataset_length(dataloader: Any) -> int | None:
    """The length of the data set behind a loader, if it has one that knows."""
    dataset: Any = getattr(dataloader, "dataset", None)
    return len(dataset) if hasattr(dataset, "__len__") else None


def batch_size(batch: Mapping[str, Any]) -> int:
    """The number of examples of a batch.

    Raises:
        ValueError: It holds no tensor, or none with an example.
    """
    tensors = [value for value in batch.values() if isinstance(value, Tensor) and value.ndim]
    main = batch.get("input_ids", batch.get("inputs_embeds", tensors[0] if tensors else None))
    if main is None or len(main) == 0:
        raise ValueError(f"a batch has no example; its keys are {list(batch)}")
    return len(main)


def model_inputs(model: nn.Module, batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The arguments of one call of the model: the batch without labels, on the device, and what can be derived.

    Position ids are derived from the mask where examples are padded on the left, so that left and right padding agree;
    a decoder's inputs from the labels, as transformers does.

    Raises:
        ValueError: Several examples are packed into one row, or the mask is not one of zeros and ones.
    """
    for key in _PACKED:
        if batch.get(key) is not None:
            raise ValueError(
                f"the batch has {key!r}: packed or padding-free batches hide where an example ends; unpack"
            )
    inputs: dict[str, Any] = {
        key: value.to(device) if isinstance(value, Tensor) else value
        for key, value in batch.items()
        if key not in ("labels", "label", "label_ids")
    }
    mask, positions = inputs.get("attention_mask"), inputs.get("position_ids")
    if mask is not None and (mask.ndim != 2 or bool((mask.long() > 1).any())):
        raise ValueError("attention_mask must be (batch, length) of zeros and ones: packed batches are not supported")
    if positions is not None and positions.ndim == 2 and positions.shape[1] > 1:
        steps = positions.diff(dim=1)
        restart = steps <= 0 if mask is None else (steps <= 0) & mask[:, 1:].bool() & mask[:, :-1].bool()
        if bool(restart.any()):
            raise ValueError("position_ids start again within a row: packed batches are not supported; unpack")

    accepted = inspect.signature(model.forward).parameters
    derives_positions = any(hasattr(module, "create_position_ids_from_input_ids") for module in model.modules())
    takes_positions = "position_ids" in accepted and positions is None and not derives_positions
    if takes_positions and mask is not None and not bool(mask[:, 0].all()):
        inputs["position_ids"] = (mask.long().cumsum(1) - 1).clamp(min=0)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and "decoder_input_ids" not in inputs:
        labels = labels_of(batch).to(device)
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=labels)  # type: ignore[operator]
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    return inputs


def labels_of(batch: Mapping[str, Any]) -> Tensor:
    """The labels of a batch, under any of the names that transformers' collators use.

    Raises:
        ValueError: There are none.
    """
    for key in ("labels", "label", "label_ids"):
        if isinstance(batch.get(key), Tensor):
            labels: Tensor = batch[key]
            return labels
    raise ValueError(f"the batch has no labels; its keys are {list(batch)}")

"""Embeddings are looked up, and losses taken, at indices that there are, or an error says which is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@contextmanager
def check_indices(model: nn.Module) -> Iterator[None]:
    """Check every index that is looked up in an embedding of a model, and every label of a cross-entropy.

    On a GPU an index that is too large would end the process, and elsewhere torch does not say which embedding it is.

    Raises:
        ValueError: An index is outside of an embedding, or a label of the classes; the message names both.
    """
    with _Lookups(model):
        yield


class _Lookups(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def __torch_function__(
        self, function: Any, _types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        if function is F.embedding and len(arguments) > 1:
            self._check(arguments[0], arguments[1])
        if function is F.cross_entropy and len(arguments) > 1:
            _check_labels(arguments[0], arguments[1], (options or {}).get("ignore_index", -100))
        return function(*arguments, **(options or {}))

    def _check(self, indices: Tensor, weight: Tensor) -> None:
        if indices.numel() == 0 or weight.ndim != 2:
            return
        low, high = (int(bound) for bound in indices.aminmax())
        if low >= 0 and high < len(weight):
            return
        name = next((name for name, one in self._model.named_parameters() if one is weight), "an embedding")
        wrong = low if low < 0 else high
        raise ValueError(
            f"index {wrong} is looked up in {name}, which has {len(weight)} entries: either an id, such as the padding "
            "id, is outside of the vocabulary (resize_token_embeddings makes room), or the examples are longer than "
            "the positions that the model has learned (truncate them)"
        )


def _check_labels(logits: Tensor, labels: Tensor, left_out: int) -> None:
    if logits.ndim != 2:
        return
    if labels.ndim == 1 and labels.dtype not in (torch.int64, torch.uint8):
        raise ValueError(f"the labels are in {labels.dtype}, where classes or tokens are told apart: they are in int64")
    if labels.is_floating_point():
        return
    wrong = labels[(labels != left_out) & ((labels < 0) | (labels >= logits.shape[1]))]
    if len(wrong):
        raise ValueError(
            f"the label {int(wrong[0])} is none of the {logits.shape[1]} classes, or tokens, that the model tells "
            f"apart: they are counted from 0, and {left_out} stands where there is no label"
        )

"""Which label a position's logits predict."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from lora_da.statistics.batches.segments import Segments

Alignment = Literal["shifted", "aligned", "example"]
"""How logits and labels belong together.

"shifted": the logits at t predict the label at t + 1 (causal language models); "aligned": each position its own label
(masked language models, token classification, decoders with an encoder); "example": one label an example (sequence and
image classification, regression).
"""

_ALIGNED = {"ForMaskedLM", "ForTokenClassification"}
_PER_EXAMPLE = {
    "ForSequenceClassification",
    "ForImageClassification",
    "ForVideoClassification",
    "ForAudioClassification",
}
_CAUSAL = {"ForCausalLM", "ForConditionalGeneration"}


def label_alignment(model: nn.Module) -> Alignment:
    """Tell how a transformers model's logits and labels belong together.

    Raises:
        ValueError: The model's task is unknown.
    """
    task = getattr(model, "loss_type", None)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and task in _CAUSAL:
        return "aligned"
    if task in _CAUSAL or (task is None and type(model).__name__.endswith("LMHeadModel")):
        return "shifted"
    if task in _ALIGNED:
        return "aligned"
    if task in _PER_EXAMPLE:
        return "example"
    raise ValueError(
        f"the loss of {type(model).__name__} is not known: it is no causal, masked or sequence-to-sequence language "
        "model and no classifier of transformers. Give example_loss, a function of (model output, batch) that returns "
        "each example's loss."
    )


def predicting_positions(labels: Tensor, alignment: Alignment, segments: Segments | None = None) -> Tensor:
    """Find the positions whose logits predict a label.

    Args:
        labels: (B, L), -100 where there is no label.
        alignment: From :func:`label_alignment`.
        segments: Those of a packed batch; nothing predicts the label of a segment's first token.

    Returns:
        (B, L), bool.

    Raises:
        ValueError: The labels belong to examples, not to tokens.
    """
    if alignment == "example" or labels.ndim != 2:
        raise ValueError(f"labels of shape {tuple(labels.shape)} are no labels of tokens: this loss has one an example")
    predicted = labels != -100
    if segments is not None:
        predicted = predicted & (segments.numbers >= 0).to(labels.device)
    if alignment == "aligned":
        return predicted
    if segments is not None:
        predicted = predicted & ~segments.starts.to(labels.device)
    return F.pad(predicted[:, 1:], (0, 1), value=False)

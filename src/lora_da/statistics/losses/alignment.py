"""Which label a position's logits predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from lora_da.statistics.batches.segments import Segments

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

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


def find_alignment(model: nn.Module) -> Alignment:
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


def find_predicting_positions(
    labels: Int[Tensor, "batch length"], alignment: Alignment, segments: Segments | None = None
) -> Bool[Tensor, "batch length"]:
    """Find the positions whose logits predict a label; -100 stands where there is none.

    In a packed batch nothing predicts the label of a segment's first token.

    Raises:
        ValueError: The labels belong to examples, not to tokens.
    """
    if alignment == "example":
        raise ValueError("the labels belong to examples, so that no position predicts them")
    predicted = labels != -100
    if segments is not None:
        predicted = predicted & (segments.numbers >= 0).to(labels.device)
    if alignment == "aligned":
        return predicted
    if segments is not None:
        predicted = predicted & ~segments.starts.to(labels.device)
    return F.pad(predicted[:, 1:], (0, 1), value=False)

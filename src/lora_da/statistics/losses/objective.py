"""A model, and the loss of each example by which its layers are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.inputs import find_labels
from lora_da.statistics.batches.segments import find_segments
from lora_da.statistics.layers import Layer, find_device
from lora_da.statistics.losses.alignment import find_alignment
from lora_da.statistics.losses.chunked import (
    HiddenStates,
    compute_chunked_losses,
    has_separate_head,
)
from lora_da.statistics.losses.example_losses import ExampleLoss, compute_example_losses
from lora_da.statistics.losses.targets import Reduction

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Objective:
    """A model and its loss.

    Attributes:
        model: A model that returns logits, inside PEFT's and the compiler's wrappers.
        example_loss: Each example's loss as a function of (model output, batch), for models whose loss is not known.
        entry: The module that is called with the inputs, if it is one around the model that gathers sharded weights.
    """

    model: nn.Module
    example_loss: ExampleLoss | None = None
    entry: nn.Module | None = None

    @property
    def called(self) -> nn.Module:
        """The module that is called with the inputs."""
        return self.model if self.entry is None else self.entry

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        return find_device(self.model)

    @property
    def known(self) -> bool:
        """Whether the model is called itself, and its loss is the library's."""
        return self.called is self.model and self.example_loss is None

    @property
    def couples_examples(self) -> bool:
        """Whether the loss says so, or the model normalises over the batch even in evaluation mode."""
        return bool(getattr(self.example_loss, "batch_dependent", False)) or any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats
            for module in self.model.modules()
        )

    def evaluate(
        self, batch: Mapping[str, Any], inputs: Mapping[str, Any], reduction: Reduction
    ) -> Float[Tensor, " examples"]:
        """Compute the losses of a batch's examples, in nats, by a forward pass alone.

        Raises:
            ValueError: The batch and the loss don't fit together; the message says how.
        """
        return self._run(batch, inputs, reduction, {})[0]

    def differentiate(
        self,
        batch: Mapping[str, Any],
        inputs: Mapping[str, Any],
        reduction: Reduction,
        layers: Mapping[str, Layer],
        scale: float = 1.0,
    ) -> Float[Tensor, " examples"]:
        """Compute the losses of a batch's examples, in nats, and run their sum, multiplied with ``scale``, backwards.

        The layers are those that are watched meanwhile.

        Raises:
            ValueError: A loss is not finite, or the batch and the loss don't fit together; the message says how.
        """
        losses, hidden, gradient = self._run(batch, inputs, reduction, layers, scale)
        finite = torch.isfinite(losses.detach())
        if not bool(finite.all()):
            raise ValueError(
                f"the loss of example(s) {(~finite).nonzero().flatten().tolist()} is not finite. Look at these "
                "examples, or use bfloat16 or float32 if the model is in float16."
            )
        if hidden is not None and gradient is not None:
            hidden.states.backward(gradient)
        elif losses.requires_grad:  # not so where none of the layers was reached
            (losses.sum() * scale).backward()
        return losses.detach()

    def _run(
        self,
        batch: Mapping[str, Any],
        inputs: Mapping[str, Any],
        reduction: Reduction,
        layers: Mapping[str, Layer],
        scale: float = 1.0,
    ) -> tuple[Tensor, HiddenStates | None, Tensor | None]:
        """The losses and, where the head can run by itself, the hidden states and the losses' gradient there."""
        if self.known and has_separate_head(self.model, layers):
            hidden = HiddenStates.of(self.model, inputs)
            if hidden is not None:
                segments = find_segments(batch)
                losses, gradient = compute_chunked_losses(hidden, find_labels(batch), reduction, scale, segments)
                return losses, hidden, gradient
        return self._losses(self.called(**inputs), batch, reduction), None, None

    def _losses(self, output: Any, batch: Mapping[str, Any], reduction: Reduction) -> Tensor:
        segments = find_segments(batch)
        if self.example_loss is None:
            return compute_example_losses(
                output.logits, find_labels(batch), find_alignment(self.model), reduction, segments
            )
        losses = self.example_loss(output, batch)
        if losses.ndim != 1:
            raise ValueError(f"example_loss must return one loss an example, (B,), not {tuple(losses.shape)}")
        if segments is not None and len(losses) != segments.count:
            raise ValueError(
                f"example_loss returned {len(losses)} losses of a packed batch of {segments.count} examples: return "
                "one an example, in the order of their positions, or unpack the examples"
            )
        return losses

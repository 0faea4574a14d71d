"""A model, and the loss of each example by which its layers are judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.examples import batch_size, count_rows
from lora_da.statistics.batches.inputs import find_labels, prepare_inputs
from lora_da.statistics.batches.segments import find_segments
from lora_da.statistics.layers import Layer, find_device
from lora_da.statistics.losses.chunked import HiddenStates, compute_chunked_losses, has_separate_head
from lora_da.statistics.losses.example_losses import ExampleLoss, couples_examples, find_own_entries
from lora_da.statistics.losses.language_models import CausalLM
from lora_da.statistics.losses.recognition import find_loss
from lora_da.statistics.losses.targets import Reduction

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Objective:
    """A model and its loss.

    Attributes:
        model: The model inside PEFT's and the compiler's wrappers.
        example_loss: Each example's loss; None until :meth:`settled` has found the model's own.
        entry: The module that is called with the inputs, if it is one around the model that gathers sharded weights.
        rows_per_example: How many rows of a batch are one example; None where only the loss can tell.
    """

    model: nn.Module
    example_loss: ExampleLoss | None = None
    entry: nn.Module | None = None
    rows_per_example: int | None = 1

    @property
    def called(self) -> nn.Module:
        """The module that is called with the inputs."""
        return self.model if self.entry is None else self.entry

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        return find_device(self.model)

    @property
    def couples_examples(self) -> bool:
        """Whether the loss says so, or the model normalises over the batch even in evaluation mode."""
        return couples_examples(self.example_loss) or any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats
            for module in self.model.modules()
        )

    def settled(self, batch: Mapping[str, Any], reduction: Reduction) -> Objective:
        """Return this objective with its loss: the one that the model is trained with, if none was given.

        The model runs on a part of the batch, and should be in evaluation mode.

        Raises:
            ValueError: The model's own loss is not known; the message says what to do.
        """
        if self.example_loss is not None:
            return self
        loss = find_loss(self.model, self.called, batch, self.device, reduction)
        return dataclasses.replace(self, example_loss=loss)

    def of_model(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a batch without the entries that are the loss's own."""
        own = find_own_entries(self.example_loss)
        return {name: value for name, value in batch.items() if name not in own} if own else batch

    def prepare(self, batch: Mapping[str, Any], *, positions: bool = False) -> dict[str, Any]:
        """Make what the model is called with, see :func:`lora_da.statistics.batches.inputs.prepare_inputs`.

        Raises:
            ValueError: The batch can't be used.
        """
        return prepare_inputs(self.model, self.of_model(batch), self.device, positions=positions)

    def count_examples(self, batch: Mapping[str, Any]) -> int:
        """Count the examples of a batch; its rows where only the loss can tell how many belong together."""
        return batch_size(batch, self.rows_per_example or 1)

    def evaluate(self, batch: Mapping[str, Any], inputs: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute the losses of a batch's examples, in nats, by a forward pass alone.

        Raises:
            ValueError: The batch and the loss don't fit together; the message says how.
        """
        return self._run(batch, inputs, {})[0]

    def differentiate(
        self,
        batch: Mapping[str, Any],
        inputs: Mapping[str, Any],
        layers: Mapping[str, Layer],
        scale: float = 1.0,
    ) -> Float[Tensor, " examples"]:
        """Compute the losses of a batch's examples, in nats, and run their sum, multiplied with ``scale``, backwards.

        The layers are those that are watched meanwhile.

        Raises:
            ValueError: A loss is not finite, or the batch and the loss don't fit together; the message says how.
        """
        losses, hidden, gradient = self._run(batch, inputs, layers, scale)
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
        layers: Mapping[str, Layer],
        scale: float = 1.0,
    ) -> tuple[Tensor, HiddenStates | None, Tensor | None]:
        """The losses and, where the head can run by itself, the hidden states and the losses' gradient there."""
        loss = self.example_loss
        assert loss is not None, "the objective is not settled"
        if isinstance(loss, CausalLM) and self.called is self.model and has_separate_head(self.model, layers):
            hidden = HiddenStates.of(self.model, inputs, layers)
            if hidden is not None:
                segments = find_segments(batch)
                losses, gradient = compute_chunked_losses(hidden, find_labels(batch), loss, scale, segments)
                return losses, hidden, gradient
        losses = loss(self.called(**inputs), batch)
        self._check_length(losses, batch)
        return losses, None, None

    def _check_length(self, losses: Any, batch: Mapping[str, Any]) -> None:
        """Refuse losses that are not one an example."""
        if not isinstance(losses, Tensor) or losses.ndim != 1:
            given = tuple(losses.shape) if isinstance(losses, Tensor) else f"a {type(losses).__name__}"
            raise ValueError(f"example_loss must return one loss an example, (B,), not {given}")
        segments, found = find_segments(batch), len(losses)
        if segments is not None and found != segments.count:
            raise ValueError(
                f"example_loss returned {found} losses of a packed batch of {segments.count} examples: return "
                "one an example, in the order of their positions, or unpack the examples"
            )
        rows, together = count_rows(batch), self.rows_per_example
        fits = found and (rows % found == 0 if together is None else rows == found * together)
        if segments is None and not fits:
            counted = "" if together is None else f", of which max_examples counted {rows // together} as examples"
            raise ValueError(
                f"example_loss returned {found} losses of a batch of {rows} rows{counted}: it must return one an "
                "example. If an example has several rows (2 for a pair), set the function's attribute "
                "rows_per_example to their number"
            )

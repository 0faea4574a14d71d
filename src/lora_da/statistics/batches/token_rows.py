"""Which rows of a layer's input and output gradient are tokens.

A batch of B examples padded to L positions reaches a layer as B·L rows. Padding is left out by indexing, never by
multiplying with zero, since padded positions may hold NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.segments import Segments

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped


@dataclass(frozen=True)
class TokenRows:
    """The rows of one layer's input that are tokens.

    Attributes:
        tokens: Their indices, (n,); None stands for all rows.
        padding: The indices of the others; None where there are none.
    """

    tokens: Int[Tensor, " tokens"] | None = None
    padding: Int[Tensor, " padding"] | None = None

    @classmethod
    def where(cls, attended: Bool[Tensor, " rows"]) -> TokenRows:
        """Return the rows at which a mask, (rows,), is true."""
        return cls(attended.nonzero().squeeze(1), (~attended).nonzero().squeeze(1))

    def of(self, matrix: Float[Tensor, "rows width"]) -> Float[Tensor, "tokens width"]:
        """Return these rows of a matrix."""
        return matrix if self.tokens is None else matrix.index_select(0, self.tokens.to(matrix.device))

    def with_gradient(self, gradient: Float[Tensor, "rows d_out"]) -> TokenRows:
        """Return these rows and those of padding whose gradient is not zero: some losses reach padding.

        A row of padding that holds NaN is none of them.
        """
        if self.tokens is None or self.padding is None or len(self.padding) == 0:
            return self
        padding = self.padding.to(gradient.device)
        norms = torch.linalg.vector_norm(gradient.index_select(0, padding), float("inf"), dim=1)
        reached = padding[norms > 0]
        if len(reached) == 0:
            return self
        return TokenRows(torch.cat([self.tokens.to(gradient.device), reached]).sort().values)

    def among(self, chosen: Int[Tensor, " chosen"], count: int) -> TokenRows:
        """Return which of the rows that a module has chosen from its input of ``count`` rows are tokens."""
        if self.tokens is None:
            return self
        attended = torch.zeros(count, dtype=torch.bool, device=chosen.device)
        attended[self.tokens.to(chosen.device)] = True
        return TokenRows.where(attended[chosen])


TokenRowsOf = Callable[[str, Tensor], TokenRows]
"""A function of a layer's name and its input, (..., d_in), that tells which rows of that are tokens."""


@dataclass(frozen=True)
class TokenPositions:
    """The positions of one batch, on one side of the model (encoder or decoder).

    Attributes:
        rows: The rows of the batch, B.
        mask: True where a position holds a token, (B, L); None without a mask: nothing is padding.
    """

    rows: int
    mask: Bool[Tensor, "rows length"] | None

    def find_rows(self, layer: str, shape: torch.Size) -> TokenRows:
        """Find the token rows of a layer's input of shape (..., d_in).

        Raises:
            ValueError: The input has neither one row a position nor one an example, and some positions are padding.
        """
        count = shape[:-1].numel()
        if self.mask is None or count == self.mask.numel():
            return self._of_positions
        if count == self.rows:
            return TokenRows()  # behind a pooling: one row an example
        if self._of_positions.tokens is None:
            return TokenRows()  # nothing is padding, so every row counts, whatever it stands for
        raise ValueError(
            f"layer {layer} has an input of shape {tuple(shape)}, but the batch has {self.rows} rows and positions "
            f"{tuple(self.mask.shape)}: which of its rows are padding can't be known. Leave the layer out of "
            "target_modules, or give batches without padding."
        )

    @cached_property
    def _of_positions(self) -> TokenRows:
        # Found once a batch, since looking for indices waits for the device.
        if self.mask is None or bool(self.mask.all()):
            return TokenRows()
        return TokenRows.where(self.mask.flatten())


@contextmanager
def locate_token_rows(
    model: nn.Module, inputs: Mapping[str, Any], labels: Shaped[Tensor, ...] | None, segments: Segments | None
) -> Iterator[TokenRowsOf]:
    """Yield the function that tells which rows of the layers' inputs are tokens, while the model runs on a batch.

    The own padding of a packed batch's ``segments`` is left out.
    """
    mask = inputs.get("attention_mask")
    mask = None if mask is None else mask.bool()
    main = inputs.get("input_ids", inputs.get("inputs_embeds"))
    tensors = [value for value in inputs.values() if isinstance(value, Tensor) and value.ndim]
    rows = len(main if main is not None else tensors[0])
    if segments is not None and bool((segments.numbers < 0).any()):
        of_examples = (segments.numbers >= 0).to(tensors[0].device)
        mask = of_examples if mask is None else mask & of_examples
    positions = TokenPositions(rows, mask)
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        yield lambda layer, layer_input: positions.find_rows(layer, layer_input.shape)
        return
    decoder_positions = TokenPositions(rows, find_decoder_mask(inputs, labels))
    encoder = model.get_encoder()  # type: ignore[operator]
    prefix = next(name for name, module in model.named_modules() if module is encoder) + "."
    encoder_output: list[Tensor] = []

    def find_rows(layer: str, layer_input: Tensor) -> TokenRows:
        # Cross-attention's keys and values see the encoder's output, under reentrant checkpointing a detached twin.
        of_encoder = layer.startswith(prefix) or any(
            layer_input.data_ptr() == seen.data_ptr() and layer_input.shape == seen.shape for seen in encoder_output
        )
        return (positions if of_encoder else decoder_positions).find_rows(layer, layer_input.shape)

    handle = encoder.register_forward_hook(lambda _module, _args, output: encoder_output.append(output[0]))
    try:
        yield find_rows
    finally:
        handle.remove()


def find_decoder_mask(
    inputs: Mapping[str, Any], labels: Shaped[Tensor, ...] | None
) -> Bool[Tensor, "batch length"] | None:
    """Return where a decoder beside an encoder has tokens; without a mask of its own, labels tell its padding."""
    mask = inputs.get("decoder_attention_mask")
    if mask is not None:
        found: Tensor = mask.bool()
        return found
    if labels is None or labels.ndim != 2:
        return None
    # Padding of the labels is at the end, so that a position holds a token if a label stands at it or behind it.
    return (labels != -100).flip(1).cumsum(1).flip(1) > 0

"""The sums of a set of layers while they grow, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.statistics.accumulator import Accumulator
from lora_da.statistics.halves import Half
from lora_da.statistics.products import choose_sum_dtype, gram, product
from lora_da.statistics.sums import Statistics

if TYPE_CHECKING:
    from jaxtyping import Float


class RunningSums:
    """Sums of products, with the number of tokens that each has seen.

    Attributes:
        gradient_sums: Σ g aᵀ by layer, (d_out, d_in).
        output_sums: Σ g gᵀ by layer, (d_out, d_out) or its diagonal (d_out,).
        input_sums: Σ a aᵀ by group of layers that receive the same tensor, (d_in, d_in).
        input_groups: The group of each layer.
        tokens: The number of tokens by layer.
        input_tokens: The number of tokens by group.
        half: The gradient sums of some layers, as they were after half of the examples.
    """

    def __init__(
        self, *, full_output: bool = False, loss_scale: float = 1.0, accumulator: Accumulator | None = None
    ) -> None:
        """Prepare empty sums, of outputs whole or their diagonals; gradients are divided by ``loss_scale``."""
        self._full_output, self._loss_scale = full_output, loss_scale
        self._accumulator = accumulator or Accumulator()
        self.gradient_sums: dict[str, Tensor] = {}
        self.output_sums: dict[str, Tensor] = {}
        self.input_sums: dict[str, Tensor] = {}
        self.input_groups: dict[str, str] = {}
        self.tokens: dict[str, int] = {}
        self.input_tokens: dict[str, int] = {}
        self.half = Half()

    def resume(self, earlier: Statistics, devices: Mapping[str, torch.device]) -> None:
        """Add to the sums of an earlier collection, which are taken over and kept on the layers' ``devices``."""
        for own, sums in (
            (self.gradient_sums, earlier.gradient_sums),
            (self.output_sums, earlier.output_sums),
            (self.input_sums, earlier.input_sums),
        ):
            own |= {name: tensor.to(devices[name]) for name, tensor in sums.items()}
        self.input_groups |= earlier.input_groups
        self.tokens |= earlier.tokens
        self.input_tokens |= {group: earlier.tokens[group] for group in earlier.input_sums}
        kept = {name: tensor.to(devices[name]) for name, tensor in earlier.half.gradient_sums.items()}
        self.half = Half(kept, earlier.half.examples)

    def add_gradient(self, layer: str, a: Float[Tensor, "rows d_in"], g: Float[Tensor, "rows d_out"]) -> None:
        """Add Σ g aᵀ over some rows of a layer's input and output gradient."""
        self._accumulator.add(self.gradient_sums, layer, product(g, a, choose_sum_dtype(a, g)).div_(self._loss_scale))

    def add_output(self, layer: str, g: Float[Tensor, "tokens d_out"]) -> None:
        """Add Σ g gᵀ over the tokens of a layer, and count them."""
        dtype = choose_sum_dtype(g)
        output = gram(g, dtype) if self._full_output else g.to(dtype).square().sum(0)
        self._accumulator.add(self.output_sums, layer, output.div_(self._loss_scale**2))
        self.tokens[layer] = self.tokens.get(layer, 0) + len(g)

    def add_input(self, group: str, a: Float[Tensor, "tokens d_in"]) -> None:
        """Add Σ a aᵀ over the tokens of a group of layers, and count them."""
        self._accumulator.add(self.input_sums, group, gram(a, choose_sum_dtype(a)))
        self.input_tokens[group] = self.input_tokens.get(group, 0) + len(a)

    def keep_half(self, layers: Iterable[str], examples: int) -> None:
        """Remember the gradient sums of some layers as they are now, after so many examples."""
        self.wait()
        reached = [name for name in layers if name in self.gradient_sums]
        self.half = Half({name: self.gradient_sums[name].clone() for name in reached}, examples)

    def wait(self) -> None:
        """Return when everything is added."""
        self._accumulator.wait()

    def finish(self) -> None:
        """Wait, free everything but the sums, and check them.

        Raises:
            ValueError: Layers that share an input saw different tokens, or a sum is not finite.
        """
        self._accumulator.finish()
        for name, group in self.input_groups.items():
            if name in self.tokens and self.tokens[name] != self.input_tokens[group]:
                raise ValueError(
                    f"layers {name} and {group} share their input in some batches or calls, but not in all: models "
                    "that change which layers share an input are not supported; leave one out of target_modules"
                )
        sums = self.gradient_sums | {f"the input of {group}": value for group, value in self.input_sums.items()}
        if not sums:
            return
        finite = torch.stack([torch.isfinite(value.sum()).cpu() for value in sums.values()])
        if not bool(finite.all()):
            bad = [name for name, good in zip(sums, finite.tolist(), strict=True) if not good]
            raise ValueError(
                f"the sums of {len(bad)} layers are not finite, first {bad[0]}: activations or gradients overflow. "
                "Use bfloat16 or float32."
            )

"""What is remembered of the data: sums and counts per layer, which add over batches, machines and files.

Shapes: d_in and d_out are the layer's input and output widths; ``a`` is the layer's input at one token, ``g`` the
gradient of the example's loss with respect to the layer's output there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_da.config import CollectionConfig
from lora_da.statistics.halves import Half

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True, repr=False)
class LayerStatistics:
    """The sums of one layer.

    Attributes:
        gradient_sum: Σ g aᵀ over all tokens of all examples, and over padding that a loss reaches.
        input_sum: Σ a aᵀ over the tokens.
        output_sum: Σ g gᵀ over the tokens, or only its diagonal.
        tokens: The number of tokens.
        examples: The number of examples, those without a token in this layer included.
        half_sum: Σ g aᵀ of half of the examples alone; None if it was not kept.
        half_examples: The number of examples of that half.
    """

    gradient_sum: Float[Tensor, "d_out d_in"]
    input_sum: Float[Tensor, "d_in d_in"]
    output_sum: Float[Tensor, "d_out d_out"] | Float[Tensor, " d_out"]
    tokens: int
    examples: int
    half_sum: Float[Tensor, "d_out d_in"] | None = None
    half_examples: int = 0

    def __repr__(self) -> str:
        d_out, d_in = self.gradient_sum.shape
        return f"LayerStatistics({d_in} inputs, {d_out} outputs, {self.tokens} tokens of {self.examples} examples)"

    def to(self, device: torch.device | None) -> LayerStatistics:
        """Return the same on another device; None leaves it where it is."""
        return dataclasses.replace(
            self,
            gradient_sum=self.gradient_sum.to(device),
            input_sum=self.input_sum.to(device),
            output_sum=self.output_sum.to(device),
            half_sum=None if self.half_sum is None else self.half_sum.to(device),
        )


@dataclass(frozen=True)
class ModelIdentity:
    """Which model the statistics belong to.

    Attributes:
        name: Its hub id or folder, if known.
        revision: The commit of the hub, if known.
        signature: A few hundred entries of its input embedding in float32: they survive a change of precision, the
            quantisation of linear layers and a move to another folder. Empty where there is no such embedding.
    """

    name: str | None = None
    revision: str | None = None
    signature: Float[Tensor, " entries"] = field(default_factory=lambda: torch.zeros(0), repr=False)

    def matches(self, other: ModelIdentity) -> bool:
        """Tell whether both can be the same model; it is so where nothing is known of one of them.

        Rounding to bfloat16 moves the signature by about 1e-3 of its norm, another model by about 1.
        """
        if self.signature.numel() and other.signature.numel():
            if self.signature.shape != other.signature.shape:
                return False
            return bool((self.signature - other.signature).norm() <= 1e-2 * self.signature.norm())
        return self.name is None or other.name is None or self.name == other.name


@dataclass(frozen=True, repr=False)
class Statistics:
    """The sums of all layers of one model over one set of examples; ``a + b`` is that of the union of two sets.

    Layers that only one of the two has reached, such as experts, are kept.

    Attributes:
        gradient_sums: By layer name, see :class:`LayerStatistics`.
        output_sums: By layer name.
        input_sums: By the name of the first layer of each group of layers that receive the same tensor.
        input_groups: For each layer, the name under which ``input_sums`` holds its sum.
        tokens: By layer name.
        examples: The number of examples.
        loss_sum: The sum of the examples' losses, in nats.
        config: How they were collected.
        model: Which model they belong to.
        population_size: The length of the data set that the examples are a sample of, if known.
        batch_dependent: Whether an example's loss depended on the others in its batch.
        wholly_counted: The layers of which all rows count, padding as well if there is any, since their inputs don't
            follow the mask of a padded batch.
        half: What half of the examples say by themselves, of some layers.
    """

    gradient_sums: dict[str, Tensor]
    output_sums: dict[str, Tensor]
    input_sums: dict[str, Tensor]
    input_groups: dict[str, str]
    tokens: dict[str, int]
    examples: int
    loss_sum: float
    config: CollectionConfig
    model: ModelIdentity = field(default_factory=ModelIdentity)
    population_size: int | None = None
    batch_dependent: bool = False
    wholly_counted: tuple[str, ...] = ()
    half: Half = field(default_factory=Half)

    def __repr__(self) -> str:
        return f"Statistics({len(self.layers)} layers of {self.model.name}, {self.examples} examples, {self.config})"

    @property
    def layers(self) -> list[str]:
        """The names of the layers, in the order in which the model defines them."""
        return list(self.gradient_sums)

    def __getitem__(self, layer: str) -> LayerStatistics:
        if layer not in self.gradient_sums:
            raise KeyError(f"no statistics of a layer {layer!r}; there are {len(self.layers)}: {self.layers[:3]}…")
        return LayerStatistics(
            gradient_sum=self.gradient_sums[layer],
            input_sum=self.input_sums[self.input_groups[layer]],
            output_sum=self.output_sums[layer],
            tokens=self.tokens[layer],
            examples=self.examples,
            half_sum=self.half.gradient_sums.get(layer),
            half_examples=self.half.examples,
        )

    def __add__(self, other: Statistics) -> Statistics:
        """Add the statistics of other examples of the same model.

        Raises:
            ValueError: They were collected with other settings, from another model, or from layers of other shapes or
                that share inputs differently.
        """
        if not isinstance(other, Statistics):
            return NotImplemented
        if self.config != other.config:
            raise ValueError(f"statistics of different settings don't add: {self.config} and {other.config}")
        if not self.model.matches(other.model):
            raise ValueError(f"statistics of different models don't add: {self.model.name} and {other.model.name}")
        for name in self.gradient_sums.keys() & other.gradient_sums.keys():
            mine, others = self.gradient_sums[name].shape, other.gradient_sums[name].shape
            if mine != others:
                raise ValueError(f"statistics of layer {name} don't add: its shapes are {mine} and {others}")
            if self.input_groups[name] != other.input_groups[name]:
                raise ValueError(f"statistics don't add: layer {name} shares its input with others in one of them")
        input_groups = self.input_groups | other.input_groups
        tokens = {name: self.tokens.get(name, 0) + other.tokens.get(name, 0) for name in input_groups}
        for name, group in input_groups.items():
            if tokens[name] != tokens.get(group, tokens[name]):
                raise ValueError(f"statistics don't add: only one of {name} and {group} was reached in one of them")

        def added(mine: dict[str, Tensor], others: dict[str, Tensor]) -> dict[str, Tensor]:
            both = {name: tensor + others[name].to(tensor.device) for name, tensor in mine.items() if name in others}
            return mine | others | both

        return dataclasses.replace(
            self,
            gradient_sums=added(self.gradient_sums, other.gradient_sums),
            output_sums=added(self.output_sums, other.output_sums),
            input_sums=added(self.input_sums, other.input_sums),
            input_groups=input_groups,
            tokens=tokens,
            examples=self.examples + other.examples,
            loss_sum=self.loss_sum + other.loss_sum,
            # Two samples of one data set, or samples of two? Only the caller knows what fine-tuning will see.
            population_size=None,
            batch_dependent=self.batch_dependent or other.batch_dependent,
            wholly_counted=tuple(dict.fromkeys(self.wholly_counted + other.wholly_counted)),
            half=self.half + other.half,
        )

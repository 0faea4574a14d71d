"""What a family of models is: how a tiny one is made, what it is trained on, and what its own loss means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from models import VOCABULARY

Example = dict[str, Any]  # a batch of one
Labels = Callable[[Example], float]


@dataclass(frozen=True)
class Family:
    """One kind of model with one task.

    Attributes:
        name: As users call it.
        task: What it is trained to do.
        make: Builds a small model; its weights are drawn anew afterwards.
        examples: Given the lengths of their texts (or sounds, or series), builds examples, each a batch of one.
        labels: How many labels the mean in the model's own loss runs over, for one example: the product is the
            example's negative log-likelihood.
        paddings: The ways in which batches of unequal examples can be padded; empty where examples have one shape.
        own_axes: Keys that are padded on the right whatever the side, since they are no part of the text.
        fill: What the padding of a key holds, if not zero (-100 for labels).
        example_loss: What is given to the library where it can't know the loss.
        own_loss: The sum of the examples' losses where the model computes none: a function of (output, batch).
        wrap: What is put around the PEFT model before the library gets it.
        adapt: Settings of the LoRA adapter beside rank and target modules.
        mixed: Makes it a PeftMixedModel, which can't be saved.
        rank: LoRA's rank; layers narrower than it get their own width, unless ``narrow``.
        narrow: Leaves the rank above the width of narrow layers.
        dtype: The precision of the check; float64 unless the model can't.
        lengths: Of the padded examples.
        only: Parts of the names of the layers that are adapted; empty for all.
        left_out: Parts of the names of linear layers that PEFT can't adapt.
        couples_examples: Whether an example's loss depends on the others of its batch by definition.
    """

    name: str
    task: str
    make: Callable[[], nn.Module]
    examples: Callable[[Sequence[int]], list[Example]]
    labels: Labels
    paddings: tuple[str, ...] = ("right", "left")
    own_axes: frozenset[str] = frozenset()
    fill: Mapping[str, float] = field(default_factory=dict)
    example_loss: Callable[[Any, Mapping[str, Any]], Tensor] | None = None
    own_loss: Callable[[Any, Mapping[str, Any]], Tensor] | None = None
    wrap: Callable[[nn.Module], nn.Module] | None = None
    adapt: Mapping[str, Any] = field(default_factory=dict)
    mixed: bool = False
    rank: int = 2
    narrow: bool = False
    dtype: torch.dtype = torch.float64
    lengths: tuple[int, ...] = (5, 8, 3, 6)
    only: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    couples_examples: bool = False

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.name}, {self.task}"

    def model(self) -> nn.Module:
        """A new one, in evaluation mode; the same every time."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model: Any = self.make()
            if self.dtype == torch.float64 and hasattr(model, "set_experts_implementation"):
                model.set_experts_implementation("eager")  # the grouped products know no float64
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim >= 2:
                        parameter.normal_(std=0.25)
                    elif parameter.is_floating_point():
                        parameter.add_(0.1 * torch.randn_like(parameter))
        made: nn.Module = model.to(self.dtype).eval()
        return made

    def batch_of(self, examples: Sequence[Example], side: str) -> Example:
        """The examples as one batch, padded on a side."""
        batch: Example = {}
        for key, first in examples[0].items():
            if not isinstance(first, Tensor):
                batch[key] = first
                continue
            rows = [example[key] for example in examples]
            fill = self.fill.get(key, -100 if "labels" in key else 0)
            own = key in self.own_axes
            batch[key] = torch.cat(_padded(rows, fill, "right" if own else side))
        return self.cast(batch)

    def cast(self, example: Example) -> Example:
        """The example in the family's precision."""
        return {
            key: value.to(self.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
            for key, value in example.items()
        }


def _padded(rows: Sequence[Tensor], fill: float, side: str) -> list[Tensor]:
    """Tensors with all axes but the first as long as the longest."""
    longest = [max(row.shape[axis] for row in rows) for axis in range(1, rows[0].ndim)]
    padded = []
    for row in rows:
        whole = row.new_full((len(row), *longest), fill)
        place = tuple(
            slice(0, own) if side == "right" else slice(most - own, most)
            for own, most in zip(row.shape[1:], longest, strict=True)
        )
        whole[(slice(None), *place)] = row
        padded.append(whole)
    return padded


def family(
    name: str,
    task: str,
    model: str,
    config: str,
    examples: Callable[[Sequence[int]], list[Example]],
    *settings: Mapping[str, Any],
) -> Family:
    """A family of transformers, by the names of its class and of its configuration's.

    Of the settings, those named as a :class:`Family`'s attributes belong to that, the rest to the configuration. A
    later one replaces an earlier one, and ... removes it.
    """
    merged: dict[str, Any] = {"labels": shifted}
    for part in settings:
        merged |= part
    merged = {key: value for key, value in merged.items() if value is not ...}
    own = {key: merged.pop(key) for key in Family.__dataclass_fields__ if key in merged}
    if merged.get("pad_token_id"):
        own.setdefault("fill", {"input_ids": merged["pad_token_id"]})
    prepared = own.pop("make", None)

    def make() -> nn.Module:
        built: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**merged))
        return prepared(built) if prepared else built

    return Family(name, task, make, examples, **own)


# What a model's own mean runs over, for one example.


def shifted(example: Example) -> float:
    """Label tokens, but one at the first position: the logits at t predict the label at t + 1."""
    return float((example["labels"][:, 1:] != -100).sum())


def aligned(example: Example) -> float:
    """Label tokens: each position predicts its own."""
    return float((example["labels"] != -100).sum())


def one(_example: Example) -> float:
    """One label an example."""
    return 1.0


def two(_example: Example) -> float:
    """A start and an end."""
    return 2.0


def entries(example: Example) -> float:
    """Yes or no for each class."""
    return float(example["labels"].numel())


def half_entries(example: Example) -> float:
    """Numbers, each with half a square: a unit Gaussian's negative log-likelihood, less a constant."""
    return float(example["labels"].numel()) / 2


# Examples.


def generator_of(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(
    lengths: Sequence[int], *, vocabulary: int = VOCABULARY, first: int = 5, end: int | None = None
) -> list[Example]:
    """Random tokens with a mask of ones; ``end`` closes each."""
    generator = generator_of()
    examples = []
    for length in lengths:
        tokens = torch.randint(first, vocabulary, (1, length), generator=generator)
        if end is not None:
            tokens[0, -1] = end
        examples.append({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
    return examples


def causal(lengths: Sequence[int], **settings: Any) -> list[Example]:
    """The loss on all tokens but a prompt of one or two."""
    examples = texts(lengths, **settings)
    for index, example in enumerate(examples):
        example["labels"] = example["input_ids"].clone()
        example["labels"][:, : index % 2 + 1] = -100
    return examples


def masked(lengths: Sequence[int], **settings: Any) -> list[Example]:
    """Every other token is a label."""
    examples = causal(lengths, **settings)
    for example in examples:
        example["labels"][:, ::2] = -100
    return examples


def tagged(lengths: Sequence[int], **settings: Any) -> list[Example]:
    """One of three classes a token."""
    examples = texts(lengths, **settings)
    for example in examples:
        example["labels"] = example["input_ids"] % 3
    return examples


def classified(lengths: Sequence[int], **settings: Any) -> list[Example]:
    """One of three classes a text."""
    examples = texts(lengths, **settings)
    for index, example in enumerate(examples):
        example["labels"] = torch.tensor([index % 3])
    return examples


def answered(lengths: Sequence[int], **settings: Any) -> list[Example]:
    """A start and an end, counted from the text's first token."""
    examples = texts(lengths, **settings)
    for index, example in enumerate(examples):
        example["start_positions"] = torch.tensor([index % 2])
        example["end_positions"] = torch.tensor([index % 2 + 1])
    return examples


def chosen(lengths: Sequence[int], **settings: Any) -> list[Example]:
    """Two choices of equal length a question."""
    examples = []
    for index, (length, pair) in enumerate(
        zip(lengths, texts([2 * length for length in lengths], **settings), strict=True)
    ):
        example = {key: value.view(1, 2, length) for key, value in pair.items()}
        examples.append(example | {"labels": torch.tensor([index % 2])})
    return examples


def translated(lengths: Sequence[int], **settings: Any) -> list[Example]:
    """Targets of other lengths, the longest as long as the longest source, so that shapes don't tell them apart."""
    targets = [max(lengths) - index for index in range(len(lengths))]
    examples = texts(lengths, **settings)
    for example, target in zip(examples, texts(targets, **settings), strict=True):
        example["labels"] = target["input_ids"]
    return examples


def pictures(lengths: Sequence[int], *, size: int = 8, channels: int = 3, classes: int = 3) -> list[Example]:
    """One image an example, with a class."""
    generator = generator_of()
    return [
        {
            "pixel_values": torch.randn(1, channels, size, size, generator=generator),
            "labels": torch.tensor([index % classes]),
        }
        for index, _ in enumerate(lengths)
    ]

"""Which loss a model is trained with: the one of those in this folder that equals what the model itself returns.

The model is run on the beginning of one example, with several sets of labels. Its own loss is a mean over the batch,
and may hold parts that don't depend on the labels (router balancing); so only the differences that the labels make are
compared. A model that computes no loss is taken at its word: ``loss_type``, and what transformers makes of
``config.problem_type``, ``config.num_labels`` and the labels' type, in that order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.examples import cut_batch
from lora_da.statistics.batches.inputs import find_labels, prepare_inputs
from lora_da.statistics.batches.segments import find_segments, pick_segments
from lora_da.statistics.losses.classification import Classification, MultiLabel, MultipleChoice, Regression
from lora_da.statistics.losses.example_losses import find_logits
from lora_da.statistics.losses.language_models import CausalLM, MaskedLM, SequenceToSequence, TokenClassification
from lora_da.statistics.losses.question_answering import QuestionAnswering
from lora_da.statistics.losses.targets import Reduction

TaskLoss = CausalLM | MaskedLM | SequenceToSequence | TokenClassification | Classification | MultiLabel | Regression
"""A loss that models of transformers compute themselves, as a mean over the batch."""

_TOKENS = 16  # of the example that the model is run on
_PER_EXAMPLE = ("Sequence", "Image", "Video", "Audio")
_PROBLEMS: dict[str, type[Classification] | type[MultiLabel] | type[Regression]] = {
    "regression": Regression,
    "single_label_classification": Classification,
    "multi_label_classification": MultiLabel,
}
_ADVICE = (
    "Give example_loss, a function of (model output, batch) that returns each example's loss; lora_da.losses has some"
)


def find_loss(
    model: nn.Module, called: nn.Module, batch: Mapping[str, Any], device: torch.device, reduction: Reduction
) -> TaskLoss | QuestionAnswering:
    """Find the loss that a model is trained with.

    Args:
        model: The model inside all wrappers, in evaluation mode.
        called: What is called with the inputs.
        batch: A batch of its training data.
        device: Where the inputs go.
        reduction: Whether the losses of an example's label tokens are summed or averaged.

    Raises:
        ValueError: There is no such loss, or the model's own is another; the message says what to do.
    """
    if all(isinstance(batch.get(name), Tensor) for name in QuestionAnswering.own_entries):
        return _find_answers(model, called, batch, device)
    find_labels(batch)
    probe = _Probe.of(model, called, batch, device)
    candidates = list(probe.candidates(reduction))
    named = _named_loss(model, probe, reduction)
    candidates = [named, *(loss for loss in candidates if type(loss) is not type(named))] if named else candidates
    equal = probe.equal(candidates)
    if equal is None and named is not None:
        return named
    name = type(model).__name__
    if equal is None:
        raise ValueError(f"the loss of {name} is not known: it computes none from these labels itself. {_ADVICE}")
    if not equal:
        tried = ", ".join(type(loss).__name__ for loss in candidates)
        shapes = f"logits {tuple(probe.logits.shape)} and labels {tuple(probe.labels.shape)}"
        raise ValueError(
            f"the loss of {name} is not known: its own for {shapes} is none of {tried or 'those that are'}. {_ADVICE}"
        )
    return equal[0]


def _find_answers(
    model: nn.Module, called: nn.Module, batch: Mapping[str, Any], device: torch.device
) -> QuestionAnswering:
    """The loss of question answering, unless the model's own is another."""
    loss, part = QuestionAnswering(), {**batch}
    with suppress(ValueError):  # it can't be cut
        (part,) = cut_batch(batch, 1)
    with torch.no_grad():
        output = called(**prepare_inputs(model, part, device))
    wanted = loss.mean(output, part)
    own = getattr(output, "loss", None)
    if isinstance(own, Tensor) and bool((own - wanted).abs() > _tolerance(output.start_logits, [float(own)])):
        raise ValueError(
            f"the loss of {type(model).__name__} is not known: its own is none of a start's and an end's. {_ADVICE}"
        )
    return loss


def _tolerance(logits: Tensor, losses: Sequence[float]) -> float:
    """By how much a loss may differ from the model's own, which some compute in the logits' precision."""
    return (2e-2 if logits.dtype.itemsize < 4 else 1e-4) * max(map(abs, losses)) + 1e-6


def _named_loss(model: nn.Module, probe: _Probe, reduction: Reduction) -> TaskLoss | None:
    """The loss that a model's class or configuration names."""
    task, config = str(getattr(model, "loss_type", None)), getattr(model, "config", None)
    text_last = probe.logits.ndim == 3 and probe.logits.shape[1] > probe.labels.shape[-1]
    if task == "ForMaskedLM":
        return MaskedLM(reduction)
    if task == "ForTokenClassification":
        return TokenClassification(reduction)
    if task in ("ForCausalLM", "ForConditionalGeneration"):
        beside_encoder = getattr(config, "is_encoder_decoder", False)
        return SequenceToSequence(reduction) if beside_encoder else CausalLM(reduction, text_last)
    if task in [f"For{kind}Classification" for kind in _PER_EXAMPLE]:
        return _problem_of(config, probe.logits.shape[-1], probe.labels)
    return None


def _problem_of(config: Any, classes: int, labels: Tensor) -> Classification | MultiLabel | Regression:
    """The loss of a classifier, as transformers chooses it."""
    problem = getattr(config, "problem_type", None)
    if problem is None:
        integers = not labels.is_floating_point()
        problem = "single_label_classification" if integers else "multi_label_classification"
        problem = "regression" if getattr(config, "num_labels", classes) == 1 else problem
    if problem not in _PROBLEMS:
        raise ValueError(f"the configuration's problem_type {problem!r} is none of {', '.join(_PROBLEMS)}")
    return _PROBLEMS[problem]()


@dataclass(frozen=True)
class _Probe:
    """One or a few examples on which a model runs.

    Attributes:
        call: Gives the model's output for the examples, and its own loss where labels are given.
        batch: The examples.
        labels: Their labels, none of which is left out.
        logits: Of the model.
        own: The model's own loss and its output, with these labels; None if it computes none.
    """

    call: Callable[[Tensor], _Own]
    batch: Mapping[str, Any]
    labels: Tensor
    logits: Tensor
    own: _Own | None

    @classmethod
    def of(cls, model: nn.Module, called: nn.Module, batch: Mapping[str, Any], device: torch.device) -> _Probe:
        """Take the first of some parts of a batch for which the model computes a loss, or else the whole."""

        def run(part: Mapping[str, Any], **labels: Tensor) -> Any:
            with torch.no_grad(), _problem_type_kept(model):
                return called(**prepare_inputs(model, part, device) | labels)

        part = batch
        for part in _parts(batch):
            labels = _filled(find_labels(part), part)

            def call(labels: Tensor, part: Mapping[str, Any] = part) -> _Own:
                return _own_loss(run(part, labels=labels.to(device)))

            try:
                own = call(labels)
                return cls(call, part, labels, find_logits(own.output), own)
            except Exception:  # the model does not take a part of a batch, or no labels: it gets the next one
                continue
        return cls(call, part, labels, find_logits(run(part)), None)

    def candidates(self, reduction: Reduction) -> Iterator[TaskLoss]:
        """The losses that the shapes of logits and labels allow."""
        if self._of_tokens:
            yield CausalLM(reduction, text_last=self.logits.shape[1] > self.labels.shape[1])
            yield TokenClassification(reduction)
        elif self.logits.ndim == 2:
            several_inputs = "input_ids" in self.batch and self.batch["input_ids"].ndim == 3
            yield MultipleChoice() if several_inputs else Classification()
            yield from (MultiLabel(), Regression())

    def equal(self, candidates: list[TaskLoss]) -> list[TaskLoss] | None:
        """Those that equal the model's own loss; None if that can't be told, since it computes none."""
        if self.own is None:
            return None
        found = [(self.own, self.labels), *((self.call(labels), labels) for labels in self._other_labels())]
        tolerance = _tolerance(self.logits, [own.loss for own, _ in found])
        equal = []
        for loss in candidates:
            try:
                excess = [own.loss - float(loss.mean(own.output, {"labels": labels})) for own, labels in found]
            except (ValueError, IndexError, RuntimeError):  # not of this task's shapes
                continue
            if max(abs(entry - (excess[0] if len(excess) > 1 else 0)) for entry in excess) <= tolerance:
                equal.append(loss)
        return equal

    @property
    def _of_tokens(self) -> bool:
        logits, labels = self.logits, self.labels
        one_a_token = logits.ndim == 3 and labels.ndim == 2 and logits.shape[1] >= labels.shape[1]
        return one_a_token and not labels.is_floating_point()

    def _other_labels(self) -> list[Tensor]:
        """For tokens, labels that are likely at their position, and at the next one."""
        if not self._of_tokens:
            return []
        likely = self.logits[:, -self.labels.shape[1] :].argmax(-1).cpu()
        return [_filled(labels, self.batch) for labels in (likely, likely.roll(1, dims=1))]


@dataclass(frozen=True)
class _Own:
    """A model's own loss, and its output."""

    loss: float
    output: Any


def _own_loss(output: Any) -> _Own:
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if not isinstance(loss, Tensor) or not math.isfinite(float(loss)):
        raise ValueError("the model computes no loss, or none that is finite")
    return _Own(float(loss), output)


def _filled(labels: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Labels of which none is left out but those of padding."""
    mask = batch.get("attention_mask")
    labels = labels if labels.is_floating_point() else labels.clamp(min=0)
    padded = isinstance(mask, Tensor) and mask.shape == labels.shape
    return labels.masked_fill(mask.to(labels.device) == 0, -100) if padded else labels  # type: ignore[union-attr]


def _parts(batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The beginning of the first example if it is all text, the first example if it can be told, and the batch."""
    ids, segments = batch.get("input_ids"), find_segments(batch)
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    if segments is not None:
        yield pick_segments(batch, segments, [0], _TOKENS)
    elif isinstance(ids, Tensor) and ids.ndim == 2:
        mask = batch.get("attention_mask")
        attended = mask[0].bool() if isinstance(mask, Tensor) and mask.shape == ids.shape else torch.ones_like(ids[0])
        places = attended.nonzero().flatten()[:_TOKENS]
        of_tokens = {name: value for name, value in tensors.items() if value.shape[:2] == ids.shape}
        of_examples = {
            name: value[:1, :_TOKENS] if value.ndim == 2 else value[:1]
            for name, value in tensors.items()
            if name not in of_tokens and value.ndim < 3 and len(value.shape) and len(value) == len(ids)
        }
        if len(of_tokens) + len(of_examples) == len(tensors):
            yield {
                name: value[:1].index_select(1, places.to(value.device)) for name, value in of_tokens.items()
            } | of_examples
    if segments is None and len({len(value) if value.ndim else 0 for value in tensors.values()}) == 1:
        yield {name: value[:1] for name, value in tensors.items()}
    yield batch


@contextmanager
def _problem_type_kept(model: nn.Module) -> Iterator[None]:
    """Let a model's configuration keep its problem type, which transformers fills in when a loss is computed."""
    config = getattr(model, "config", None)
    kept = getattr(config, "problem_type", None)
    try:
        yield
    finally:
        if config is not None and getattr(config, "problem_type", None) != kept:
            config.problem_type = kept

"""The loss of a student that learns a teacher's probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.inputs import find_labels, prepare_inputs
from lora_da.statistics.batches.segments import find_segments
from lora_da.statistics.layers import find_device
from lora_da.statistics.losses.classification import Classification
from lora_da.statistics.losses.example_losses import find_logits
from lora_da.statistics.losses.language_models import CausalLM, TokenLoss
from lora_da.statistics.losses.targets import at_least_float32

if TYPE_CHECKING:
    from jaxtyping import Float

_ENTRY = "teacher_logits"


@dataclass(frozen=True)
class Distillation:
    """KL(teacher ‖ student) of the distributions at temperature τ, times τ², at each position that predicts a label.

    Without a teacher, the batch has its logits as ``teacher_logits``, shaped like the student's.

    Attributes:
        teacher: A model in evaluation mode with the student's vocabulary, which is given the same inputs.
        temperature: τ.
        share: Of the loss that is the distillation's; the rest is that of the labels.
        labels: What the labels are: a loss of label tokens such as ``CausalLM()``, or ``Classification()``.
    """

    teacher: Callable[..., Any] | None = None
    temperature: float = 2.0
    share: float = 1.0
    labels: TokenLoss | Classification = field(default_factory=CausalLM)
    rows_per_example: ClassVar[int] = 1
    own_entries: ClassVar[tuple[str, ...]] = (_ENTRY,)

    def __call__(self, output: Any, batch: Mapping[str, Any]) -> Float[Tensor, " examples"]:
        """Compute each example's loss, in nats.

        Raises:
            ValueError: There is no teacher, it is in training mode, or its logits are shaped otherwise.
        """
        logits = find_logits(output)
        wanted = self._teach(batch).to(logits.device)
        if wanted.shape != logits.shape:
            raise ValueError(
                f"the teacher's logits {tuple(wanted.shape)} are not shaped like the student's "
                f"{tuple(logits.shape)}: both need one vocabulary"
            )
        if isinstance(self.labels, TokenLoss):
            labels = self.labels.place(find_labels(batch).to(logits.device), logits)
            targets = self.labels.targets(labels, logits, find_segments(batch))
            divergences = self._diverge(logits[targets.positions], wanted[targets.positions])
            taught = targets.by_example(divergences, self.labels.reduction)
        else:
            taught = self._diverge(logits, wanted)
        return taught if self.share == 1 else self.share * taught + (1 - self.share) * self.labels(output, batch)

    def _diverge(self, logits: Float[Tensor, "rows C"], wanted: Float[Tensor, "rows C"]) -> Float[Tensor, " rows"]:
        student = torch.log_softmax(at_least_float32(logits) / self.temperature, -1)
        teacher = torch.log_softmax(at_least_float32(wanted) / self.temperature, -1)
        return self.temperature**2 * (teacher.exp() * (teacher - student)).sum(-1)

    def _teach(self, batch: Mapping[str, Any]) -> Tensor:
        if isinstance(batch.get(_ENTRY), Tensor):
            given: Tensor = batch[_ENTRY]
            return given
        if self.teacher is None:
            raise ValueError(f"Distillation has no teacher, and the batch no {_ENTRY}; its keys are {list(batch)}")
        inputs = dict(batch)
        if isinstance(self.teacher, nn.Module):
            if self.teacher.training:
                raise ValueError("the teacher is in training mode, in which dropout would blur it: call its eval()")
            inputs = prepare_inputs(self.teacher, batch, find_device(self.teacher))
        with torch.no_grad():
            return find_logits(self.teacher(**inputs))

"""How many label tokens an example's loss is summed over, so that losses can be told per token."""

from __future__ import annotations

from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.statistics.batches.inputs import find_labels
from lora_da.statistics.batches.segments import find_segments
from lora_da.statistics.losses.language_models import TokenLoss
from lora_da.statistics.losses.targets import find_predicting_positions


def count_label_tokens(source: CalibrationSource) -> float | None:
    """Return the mean number of label tokens that an example's loss is the sum of, over all processes' examples.

    No model runs for it. All processes have to call, and get the same.

    Returns:
        1 where the loss is a mean over them; None where its labels are no tokens, or nothing is known of it.
    """
    own = _count_own(source)
    parts = [own] if source.processes is None else source.processes.gather_objects(own, "counting label tokens")
    known = [part for part in parts if part is not None]  # a process without a batch knows no loss
    tokens = sum(part[0] for part in known)
    return tokens / sum(part[1] for part in known) if tokens else None


def _count_own(source: CalibrationSource) -> tuple[int, int] | None:
    """The label tokens and the examples of this process."""
    loss = source.example_loss
    if not isinstance(loss, TokenLoss):
        return None
    examples = sum(map(source.objective.count_examples, source.batches))
    if loss.reduction == "mean":
        return examples, examples
    positions = (
        find_predicting_positions(find_labels(batch), loss.alignment, find_segments(batch)) for batch in source.batches
    )
    return sum(int(found.sum()) for found in positions), examples

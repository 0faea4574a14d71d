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
    loss = source.example_loss
    if not isinstance(loss, TokenLoss):
        return None
    if loss.reduction == "mean":
        return 1.0
    tokens = examples = 0
    for batch in source.batches:
        tokens += int(find_predicting_positions(find_labels(batch), loss.alignment, find_segments(batch)).sum())
        examples += source.objective.count_examples(batch)
    if source.processes is not None:
        parts = source.processes.gather_objects((tokens, examples), "counting label tokens")
        tokens, examples = sum(part[0] for part in parts), sum(part[1] for part in parts)
    return tokens / examples if tokens else None

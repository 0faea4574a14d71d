from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from lora_da.losses import CausalLM, Classification, SequenceToSequence
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.pipeline.label_tokens import count_label_tokens
from lora_da.statistics.losses.example_losses import ExampleLoss

LABELS = torch.tensor([[5, -100, 7, 8], [-100, -100, 9, -100]])
PACKED = {"input_ids": torch.arange(6)[None], "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]])}


def count(
    loss: ExampleLoss | None, batch: dict[str, torch.Tensor] | None = None, *, processes: object = None
) -> object:
    batch = batch or {"input_ids": torch.zeros(2, 4), "labels": LABELS}
    source = Mock(spec=CalibrationSource, example_loss=loss, batches=[batch], processes=processes)
    source.objective.count_examples = lambda batch: 2
    return count_label_tokens(source)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(CausalLM(), 1.5), (SequenceToSequence(), 2.0), (CausalLM("mean"), 1.0), (Classification(), None), (None, None)],
)
def test_labels_that_are_predicted_count(loss: ExampleLoss | None, expected: float | None) -> None:
    assert count(loss) == expected


def test_the_first_token_of_a_packed_example_is_not_predicted() -> None:
    assert count(CausalLM(), PACKED | {"labels": torch.arange(6)[None]}) == 2.0


def test_processes_count_together() -> None:
    processes = Mock(gather_objects=lambda own, what: [own, (9, 2), None])  # the last has read nothing
    assert count(CausalLM(), processes=processes) == 3.0
    assert count(None, processes=processes) == 4.5
    assert count(CausalLM("mean"), processes=Mock(gather_objects=lambda own, what: [None, own])) == 1.0

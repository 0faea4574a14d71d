from __future__ import annotations

import pytest

from lora_da import collect_statistics
from lora_da.losses import CausalLM
from lora_da.statistics.calibration_loss import measure_calibration_loss
from lora_da.statistics.losses.objective import Objective
from models import batches_of, causal_examples, tiny_llama
from reference import reference_sums


def test_the_loss_of_forward_passes_alone() -> None:
    model, examples = tiny_llama().train(), causal_examples(7)
    found = collect_statistics(model, batches_of(examples, 3), progress=False)
    total, count = measure_calibration_loss(Objective(model, CausalLM()), batches_of(examples, 2), progress=False)
    mean = total / count
    assert mean == pytest.approx(found.loss_sum / 7, rel=1e-5)
    assert mean == pytest.approx(reference_sums(model, examples, [], "causal").loss / 7, rel=1e-5)
    assert model.training

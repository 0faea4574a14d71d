from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_da.losses import DPO, CausalLM
from lora_da.pipeline.calibration_source import CalibrationSource, open_source
from lora_da.pipeline.loss_preparation import prepare_loss
from models import Positionwise, batches_of, causal_examples, collate, tiny_llama, with_lora


def source_of(model: Any, batches: Any, loss: Any = None) -> CalibrationSource:
    return prepare_loss(open_source(model, None, batches, 8, loss, progress=False), "mean")


def test_the_models_own_loss_is_found_without_its_adapters() -> None:
    model = with_lora(tiny_llama(), trained=True).train()
    states: list[Any] = []
    model.get_base_model().register_forward_hook(lambda m, *_: states.append((m.training, torch.is_grad_enabled())))
    source = source_of(model, batches_of(causal_examples(8)))
    assert source.example_loss == source.objective.example_loss == CausalLM("mean")
    assert set(states) == {(False, False)}
    assert model.training
    given = source_of(model, batches_of(causal_examples(8)), CausalLM())
    assert given.example_loss == CausalLM()


def test_what_a_loss_refers_to_comes_from_the_base() -> None:
    pairs = [collate(causal_examples(4, seed)) for seed in (1, 2)]
    source = source_of(with_lora(tiny_llama(), trained=True), pairs, DPO())
    plain = tiny_llama()
    for batch, given in zip(source.batches, pairs, strict=True):
        with torch.no_grad():
            wanted = -CausalLM()(plain(input_ids=given["input_ids"], attention_mask=given["attention_mask"]), given)
        found = torch.cat([batch["ref_chosen_logps"], batch["ref_rejected_logps"]])
        torch.testing.assert_close(found, wanted)
        assert "ref_chosen_logps" not in given
        known = dict(batch) | {"ref_chosen_logps": torch.zeros(2), "ref_rejected_logps": torch.zeros(2)}
        (kept,) = source_of(tiny_llama(), [known], DPO()).batches
        assert not bool(kept["ref_chosen_logps"].any())


def test_an_unknown_loss_is_refused_before_any_pass() -> None:
    class Unknown(Positionwise):
        loss_type = None  # type: ignore[assignment]

    with pytest.raises(ValueError, match="the loss of Unknown is not known: it computes none from these labels itself"):
        source_of(Unknown(), batches_of(causal_examples(2)))

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lora_da.statistics.estimation_mode import estimation_mode
from models import tiny_opt


def _state(model: nn.Module) -> Any:
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [(name, value) for m in model.modules() for name, value in vars(m).items() if isinstance(value, float)],
    )


def _mixed(model: nn.Module) -> Any:
    """Some modules in training mode and some parameters frozen."""
    for index, module in enumerate(model.modules()):
        module.training = index % 3 != 0
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    return model


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_modes_and_flags_come_back(error: type[BaseException] | None) -> None:
    model = _mixed(tiny_opt())
    model.gradient_checkpointing_enable()
    before = _state(model)

    def inside() -> None:
        with estimation_mode(model):
            assert not any(parameter.requires_grad for parameter in model.parameters())
            assert _state(model) != before
            if error:
                raise error

    with pytest.raises(error) if error else nullcontext():
        inside()
    assert _state(model) == before


def test_checkpointing_blocks_alone_stay_in_training_mode_without_dropout() -> None:
    model = tiny_opt(dropout=0.5).train()
    model.gradient_checkpointing_enable()
    with estimation_mode(model):
        for module in model.modules():
            assert module.training == bool(getattr(module, "gradient_checkpointing", False))
            if module.training:
                assert all(value == 0.0 for name, value in vars(module).items() if "drop" in name)
    assert model.model.decoder.layers[0].dropout == 0.5


def test_four_bit_layers_stay_unpacked() -> None:
    """In evaluation mode some CPUs repack them, and no gradient passes any more."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).eval()
    state = SimpleNamespace(packing_format_for_cpu=False)
    model[1].weight.quant_state = state  # type: ignore[union-attr]
    with estimation_mode(model):
        assert [module.training for module in model] == [False, True]
    assert not any(module.training for module in model.modules())
    state.packing_format_for_cpu = True
    with (
        pytest.raises(ValueError, match=r"bitsandbytes has repacked.*call model\.state_dict\(\) once"),
        estimation_mode(model),
    ):
        pytest.fail("the body must not run")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_rates_in_a_configuration_are_at_zero_too_and_come_back() -> None:
    """As the layerdrop of speech encoders, which is read there when they are called."""
    model = tiny_opt(dropout=0.5).train()
    model.gradient_checkpointing_enable()
    model.config.layerdrop = 0.25
    with estimation_mode(model):
        assert model.config.layerdrop == 0.0
    assert model.config.layerdrop == 0.25


def test_torchs_fused_encoder_is_off_meanwhile() -> None:
    assert torch.backends.mha.get_fastpath_enabled()
    with estimation_mode(nn.Linear(1, 1)):
        assert not torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.mha.get_fastpath_enabled()

"""A name that PEFT passes over is an error, with the nearest one that there is."""

from __future__ import annotations

from typing import Any

import pytest
from peft import LoraConfig

from lora_da import collect_statistics, initialize_lora_da_weights
from lora_da.adapter.target_names import check_target_names
from models import batches_of, causal_examples, tiny_gpt2, tiny_llama, with_lora


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_modules": ["q_porj", "v_proj"]}, "target_modules has the name 'q_porj'.*did you mean 'q_proj'"),
        ({"target_modules": ["self_attn.q_porj", "v_proj"]}, "did you mean 'self_attn.q_proj'"),
        ({"target_modules": ["all-linear", "q_proj"]}, "'all-linear' among other names.*give it alone"),
        ({"target_modules": ["Q_proj", "v_proj"]}, "did you mean 'q_proj'"),
        ({"target_modules": ["q_proj.weight", "v_proj"]}, "did you mean 'q_proj'"),
        ({"target_modules": ["all_linear", "v_proj"]}, "did you mean 'all-linear'"),
        ({"target_modules": ["q_proj", "xyz"]}, "'xyz'.*the model has .*down_proj"),
        ({"rank_pattern": {"q_proj": 2, "v_porj": 3}}, "rank_pattern has the name 'v_porj'.*'v_proj'"),
        ({"layers_to_transform": [0, 7]}, "layers_to_transform has the name '7'.*the model has 0, 1"),
        ({"exclude_modules": ["layers.7"]}, r"exclude_modules has the name 'layers\.7'"),
        ({"modules_to_save": ["nrm"]}, "modules_to_save has the name 'nrm'.*'norm'"),
        ({"target_parameters": ["up_prj.weight"]}, "target_parameters has the name 'up_prj.weight'.*'up_proj.weight'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*(exclude_modules|rank_pattern)")  # PEFT's, some of which are new
def test_names_that_nothing_has(settings: dict[str, Any], message: str) -> None:
    settings = {"target_modules": ["q_proj", "v_proj"]} | settings
    with pytest.raises(ValueError, match=message):
        check_target_names(tiny_llama(), LoraConfig(**settings))
    if "target_parameters" in settings:  # a parameter with a bias is not PEFT's to adapt
        return
    model = with_lora(tiny_llama(), **settings)  # PEFT adapts what it finds
    for call in (initialize_lora_da_weights, collect_statistics):
        with pytest.raises(ValueError, match=message):
            call(model, batches_of(causal_examples(2)), progress=False)
    assert not any(bool(value.any()) for name, value in model.named_parameters() if "lora_B" in name)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": "all-linear"},
        {"target_modules": r".*(q|v|none)_proj"},
        {"target_modules": None},
        {"target_modules": ["layers.0.self_attn.q_proj", "down_proj"], "rank_pattern": {r"layers\.\d\..*q_proj": 2}},
        {
            "target_modules": ["q_proj"],
            "exclude_modules": ["layers.1.self_attn.q_proj"],
            "modules_to_save": ["norm"],
            "layers_to_transform": 0,
        },
    ],
)
def test_names_with_a_meaning_pass_before_and_after_peft(settings: dict[str, Any]) -> None:
    check_target_names(tiny_llama(), LoraConfig(**settings))
    model = with_lora(tiny_llama(), **settings)
    check_target_names(model.get_base_model(), model.peft_config["default"])


def test_peft_may_choose_names_for_several_architectures() -> None:
    model = with_lora(tiny_gpt2(), target_modules=None)
    check_target_names(model.get_base_model(), model.peft_config["default"])

from __future__ import annotations

import pytest

from lora_da.workflows.settings import AdapterShape


def test_shapes() -> None:
    config = AdapterShape(rank=4, alpha=8, rslora=False, target_modules="q_proj, v_proj").lora_config()
    assert (config.r, config.lora_alpha, config.use_rslora) == (4, 8, False)
    assert set(config.target_modules or ()) == {"q_proj", "v_proj"}
    assert AdapterShape().lora_config().target_modules == "all-linear"
    with pytest.raises(ValueError, match="rank"):
        AdapterShape(rank=0)
    with pytest.raises(ValueError, match="target modules"):
        AdapterShape(target_modules=" ,")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("q_proj v_proj", "names separated by commas"),
        (".*_proj", "names separated by commas"),
        ("all_linear", "did you mean all-linear"),
        ("all-linear,q_proj", "give it alone"),
    ],
)
def test_what_is_no_name_of_a_layer(names: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        AdapterShape(target_modules=names)

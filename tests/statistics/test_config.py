from __future__ import annotations

import pytest
import torch

from lora_da import CollectionConfig


@pytest.mark.parametrize("name", ["loss_reduction", "counted_tokens", "output_factor", "accumulation_dtype"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"CollectionConfig\.{name} must be '.*' or '.*', not 'all'"):
        CollectionConfig(**{name: "all"})


def test_dtypes_as_torch_names_them() -> None:
    assert CollectionConfig().torch_dtype == torch.float32
    assert CollectionConfig(accumulation_dtype="float64").torch_dtype == torch.float64

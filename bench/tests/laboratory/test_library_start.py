"""The library's own start, against its public call on all examples at once."""

from __future__ import annotations

import warnings

import torch
from peft import LoraConfig, get_peft_model

from laboratory.test_training import EXAMPLES
from lora_da import LoraDAConfig, initialize_lora_da_weights
from lora_da_bench.laboratory.library_start import start_by_library
from lora_da_bench.methods.adapters import find_factors
from models import tiny_llama


def test_all_examples_are_read_in_parts() -> None:
    started, wanted = (get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules="all-linear")) for _ in range(2))
    start_by_library(started, EXAMPLES, 500, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        initialize_lora_da_weights(
            wanted, [EXAMPLES.batch()], LoraDAConfig(population_size=500, seed=3), measure_loss=False, progress=False
        )
    factors = find_factors(wanted)
    for name, (A, B) in find_factors(started).items():
        for found, other in ((A, factors[name][0]), (B @ A, factors[name][1] @ factors[name][0])):
            torch.testing.assert_close(found, other, rtol=1e-3, atol=1e-4)

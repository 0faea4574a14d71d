"""The methods, and the one that is no span alone: the library's own start, A and B as its default makes them."""

from __future__ import annotations

import warnings

from peft import PeftModel

from lora_da import LoraDAConfig, initialize_lora_da_weights
from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.estimators.subspaces import SUBSPACES
from lora_da_bench.laboratory.runs import DEFAULT

_BATCH = 8

METHODS = {
    DEFAULT: "no span alone: the adapter as the library's default makes it, with the step in B that it searches for",
    **{name: subspace.describe for name, subspace in SUBSPACES.items()},
}
"""All methods beside plain LoRA, with what each is."""


def start_by_library(model: PeftModel, calibration: Examples, population: int, seed: int) -> None:
    """Initialise an adapter by the library's default.

    Args:
        model: With a fresh adapter.
        calibration: The examples that the statistics of all methods are taken from.
        population: N, how many examples training sees.
        seed: Of the run.
    """
    with warnings.catch_warnings():  # it says that so few tokens leave much to damping
        warnings.simplefilter("ignore")
        initialize_lora_da_weights(
            model,
            [part.batch() for part in calibration.split(_BATCH)],
            LoraDAConfig(population_size=population, seed=seed),
            max_examples=len(calibration),
            measure_loss=False,
            progress=False,
        )

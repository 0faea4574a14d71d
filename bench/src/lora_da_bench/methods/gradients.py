"""The gradient of the mean loss with respect to each adapted layer's weight, for the methods that decompose it."""

from __future__ import annotations

from peft import PeftModel
from torch import Tensor

from lora_da.api import collect_statistics
from lora_da.config import CollectionConfig
from lora_da.statistics.batches.examples import batch_size
from lora_da_bench.methods.adapters import layers_of
from lora_da_bench.methods.method import Setup


def mean_gradients(model: PeftModel, setup: Setup) -> dict[str, Tensor]:
    """G of every adapted layer, (d_out, d_in), float32, at the base model.

    An example's loss is the mean over its label tokens, as these methods' papers have it; G averages over examples.

    Args:
        model: The setup's model with its adapter.
        setup: The setup, whose whole sample is used.

    Raises:
        ValueError: A layer has no gradient, so that there is nothing to decompose.
    """
    statistics = collect_statistics(
        model,
        setup.batches,
        CollectionConfig(loss_reduction="mean"),
        max_examples=sum(map(batch_size, setup.batches)),
        progress=False,
    )
    for name in layers_of(model):
        if name not in statistics.gradient_sums or not bool(statistics.gradient_sums[name].any()):
            raise ValueError(f"the gradient of layer {name} is zero: the calibration sample says nothing about it")
    return {name: gradient / statistics.examples for name, gradient in statistics.gradient_sums.items()}

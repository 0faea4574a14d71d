"""What a model's layers are and what one batch's activations take, from its configuration: no weight is made."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from peft.tuners.lora import LoraLayer
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM

from lora_da.loading.model_check import check_model
from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import load_config
from lora_da.loading.positions import check_positions
from lora_da.loading.precision import bits, compute_dtype, weight_bytes
from lora_da.statistics.batches.token_rows import TokenRows
from lora_da.statistics.estimation_mode import estimation_mode
from lora_da.statistics.hooks.recorder import Recorder
from lora_da.statistics.running_sums import RunningSums
from lora_da.workflows.settings import AdapterShape


@dataclass(frozen=True)
class ModelOutline:
    """A model without its weights.

    Attributes:
        shapes: (d_out, d_in) of each adapted layer, in the model's order.
        input_groups: For each of them, the first of those that receive the same input.
        parameters: Of the base model.
        vocabulary: Its size.
        dtype: The precision of its activations, and of its weights unless they are quantised.
        model_bytes: Memory of its weights.
        activation_bytes: What the backward pass of one batch needs to keep, the logits not included.
    """

    shapes: dict[str, tuple[int, int]]
    input_groups: dict[str, str]
    parameters: int
    vocabulary: int
    dtype: torch.dtype
    model_bytes: int
    activation_bytes: int


def model_outline(model: ModelSource, shape: AdapterShape, batch_size: int, length: int) -> ModelOutline:
    """Make the model of fake tensors, which have shapes and no memory, and run one batch through it.

    Raises:
        FileNotFoundError: There is no such model.
        ModuleNotFoundError: Its precision needs bitsandbytes.
        ValueError: Its precision is unknown, it has too few positions, or none of the layers that are named.
    """
    check_model(model)
    config = load_config(model)
    dtype = compute_dtype(model.dtype, config)
    make = functools.partial(
        AutoModelForCausalLM.from_config, config, dtype=dtype, trust_remote_code=model.trust_remote_code
    )
    with torch.device("meta"):  # PEFT can't adapt fake layers
        empty = make()
        check_positions(empty, length)
        peft_model = shape.adapt(empty, low_cpu_mem_usage=True)
    shapes = {
        name.removeprefix("base_model.model."): (int(layer.out_features or 0), int(layer.in_features or 0))
        for name, layer in peft_model.named_modules()
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A
    }
    kept: dict[int, torch.UntypedStorage] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        base = make()
        recorder = Recorder({name: base.get_submodule(name) for name in shapes}, RunningSums())
        ids = torch.zeros(batch_size, length, dtype=torch.long)
        weights = {parameter.untyped_storage()._cdata for parameter in base.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = storage
            return tensor

        with (
            estimation_mode(base),
            recorder.attached(),
            recorder.batch(lambda _layer, _tensor: TokenRows()),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            base(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
            input_groups = recorder.group_inputs()
    return ModelOutline(
        shapes=shapes,
        input_groups={name: input_groups.get(name, name) for name in shapes},
        parameters=sum(parameter.numel() for parameter in base.parameters()),
        vocabulary=getattr(config, "vocab_size", 0),
        dtype=dtype,
        model_bytes=weight_bytes(base, bits(model.dtype, config)),
        activation_bytes=sum(storage.nbytes() for storage in kept.values()),
    )

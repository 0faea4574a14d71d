"""Parameters of which each process holds a part: DTensors (FSDP2) and the partitions of DeepSpeed's ZeRO-3."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(parameter: Tensor) -> bool:
    """Return whether this process holds a part of a parameter alone."""
    return isinstance(parameter, DTensor) or is_partitioned(parameter)


def whole_shape(parameter: Tensor) -> torch.Size:
    """Return a parameter's shape, all parts together."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def gather_parameter(parameter: Tensor) -> Tensor:
    """Return a copy of a whole parameter, gathered from all processes, which all have to call."""
    if isinstance(parameter, DTensor):
        gathered: Tensor = parameter.full_tensor().detach()
        return gathered
    with _gathered([parameter]):
        return parameter.detach().clone()


def write_parameter(parameter: Tensor, value: Tensor) -> None:
    """Write a value, the same in all processes, into the parts of a parameter that each of them holds."""
    if isinstance(parameter, DTensor):
        value = value.to(parameter.device, parameter.dtype)
        value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
    with torch.no_grad(), _gathered([parameter]):
        parameter.copy_(value)
    if hasattr(parameter, "_z3_optimizer"):  # which trains a copy of its own in float32
        importlib.import_module("deepspeed.utils").safe_set_full_fp32_param(
            parameter, value.to(parameter.device).float()
        )


def has_shards(module: nn.Module) -> bool:
    """Return whether the processes share a module's parameters, so that each of their runs is one of all."""
    return any(is_sharded(parameter) for parameter in module.parameters())


@contextmanager
def _gathered(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Hold partitioned parameters as a whole, and part them again with what rank 0 has."""
    if not any(is_partitioned(parameter) for parameter in parameters):
        yield
        return
    zero = importlib.import_module("deepspeed").zero  # it is there, since it has parted them
    with zero.GatheredParameters(list(parameters), modifier_rank=0):
        yield


def is_partitioned(parameter: Tensor) -> bool:
    """Whether DeepSpeed's ZeRO-3 has parted it among the processes."""
    return hasattr(parameter, "ds_id")

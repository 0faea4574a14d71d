"""Whole parameters here; sharded ones are in the tests of whole jobs."""

from __future__ import annotations

import torch
from torch import nn

from lora_da.adapter.sharding import gather_parameter, has_shards, is_sharded, whole_shape, write_parameter


def test_a_whole_parameter_is_copied_and_written_in_place() -> None:
    parameter = nn.Parameter(torch.ones(2, 3, dtype=torch.bfloat16))
    copy = gather_parameter(parameter)
    assert copy.tolist() == parameter.tolist()
    assert copy.data_ptr() != parameter.data_ptr()
    write_parameter(parameter, torch.full((2, 3), 0.3, dtype=torch.float64))
    assert torch.equal(parameter.detach(), torch.full((2, 3), 0.3, dtype=torch.bfloat16))
    assert parameter.grad is None
    assert not is_sharded(parameter)
    assert not has_shards(nn.Linear(2, 2))


def test_shapes_of_partitions_are_those_of_the_whole() -> None:
    parameter = nn.Parameter(torch.empty(0))
    assert whole_shape(parameter) == (0,)
    parameter.ds_shape = torch.Size([4, 5])  # type: ignore[attr-defined]
    parameter.ds_id = 7  # type: ignore[attr-defined]
    assert whole_shape(parameter) == (4, 5)
    assert is_sharded(parameter)

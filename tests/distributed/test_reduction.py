"""Sums of several processes, added up where they are."""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import Any

import pytest
import torch

import lora_da.distributed.reduction as module
from lora_da import Statistics, collect_statistics
from lora_da.distributed.processes import Processes
from lora_da.distributed.reduction import all_reduce_statistics
from models import batches_of, causal_examples, tiny_llama


class Doubled(Processes):
    """A job of two processes that both have the same."""

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        return [value, value]

    def all_reduce_sum(self, flat: torch.Tensor, doing: str) -> torch.Tensor:
        assert flat.numel() <= module.BUCKET_ELEMENTS
        return 2 * flat


@pytest.mark.parametrize("bucket", [7, 1000, 2**24])  # entries: less than a layer has, some layers, all
def test_sums_take_the_result(bucket: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKET_ELEMENTS", bucket)

    def own() -> Statistics:
        return collect_statistics(tiny_llama(), batches_of(causal_examples(4), 2), progress=False)

    mine, expected = own(), own()
    found = all_reduce_statistics(mine, Doubled(0, 2, torch.device("cpu")))
    assert found.examples == 2 * expected.examples
    assert found.half.examples == 2 * expected.half.examples == 4
    for kind in map(attrgetter, ("gradient_sums", "output_sums", "input_sums", "half.gradient_sums")):
        assert kind(found).keys() == kind(expected).keys() != set()
        for name, tensor in kind(expected).items():
            assert torch.equal(kind(found)[name], 2 * tensor)
            assert kind(found)[name].data_ptr() == kind(mine)[name].data_ptr()


def test_a_layer_that_only_another_process_has_reached() -> None:
    statistics = collect_statistics(tiny_llama(), batches_of(causal_examples(4), 2), progress=False)
    missing = statistics.layers[-1]

    class Other(Doubled):
        def gather_objects(self, value: Any, doing: str) -> list[Any]:
            outline = dataclasses.replace(
                statistics,
                gradient_sums={name: tensor.to("meta") for name, tensor in statistics.gradient_sums.items()},
            )
            return [value, outline]

        def all_reduce_sum(self, flat: torch.Tensor, doing: str) -> torch.Tensor:
            return flat

    mine = dataclasses.replace(
        statistics,
        gradient_sums={name: tensor for name, tensor in statistics.gradient_sums.items() if name != missing},
    )
    found = all_reduce_statistics(mine, Other(0, 2, torch.device("cpu")))
    assert not found.gradient_sums[missing].any()
    assert found.gradient_sums[missing].shape == statistics.gradient_sums[missing].shape

"""What a process reads of a loader that accelerate has divided."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from lora_da.distributed.processes import Processes
from lora_da.distributed.shares import select_own_batches


class Alike(Processes):
    """A job of processes that all have the same."""

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        return [value] * self.size


def read(count: int, batch_size: int, size: int, most: int, **options: Any) -> list[int]:
    """The examples that all processes read."""
    found: list[int] = []
    for rank in range(size):
        data: Any = [{"labels": torch.tensor(index)} for index in range(count)]
        loader = prepare_data_loader(
            DataLoader(data, batch_size), num_processes=size, process_index=rank, put_on_device=False, **options
        )
        loader = DataLoader(data, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn)
        for batch in select_own_batches(loader, most, Alike(rank, size, torch.device("cpu"))):
            found += batch["labels"].tolist()
    return sorted(found)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("count", [5, 11, 12])
def test_each_example_is_read_once(count: int, size: int, split: bool) -> None:
    assert read(count, 6, size, count, split_batches=split) == list(range(count))
    assert read(count, 6, size, 4, split_batches=split) == list(range(4))


def test_a_loader_that_one_process_reads_for_all_is_refused() -> None:
    class DataLoaderDispatcher(DataLoader[Any]):
        pass

    with pytest.raises(ValueError, match="before accelerate prepared it"):
        select_own_batches(DataLoaderDispatcher([]), 4, Alike(0, 2, torch.device("cpu")))  # type: ignore[arg-type]

from __future__ import annotations

import threading

import pytest
import torch

from lora_da.system.threads import run_side_by_side


@pytest.fixture
def three_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_each_computes_alone_and_as_many_as_torch_may_use_at_once() -> None:
    together = threading.Barrier(3, timeout=60)

    def wait(number: int) -> tuple[int, int]:
        together.wait()  # ends in an error unless three are here at once
        return number, torch.get_num_threads()

    assert list(run_side_by_side(wait, range(6))) == [(number, 1) for number in range(6)]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_no_more_than_memory_allows() -> None:
    busy, most = 0, 0
    lock = threading.Lock()

    def count(_: int) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        torch.linalg.eigh(torch.eye(64))
        with lock:
            busy -= 1

    list(run_side_by_side(count, range(20), most=1))
    assert most == 1


@pytest.mark.usefixtures("three_threads")
def test_an_error_comes_through_and_the_threads_are_as_before() -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise ValueError("the third")

    with pytest.raises(ValueError, match="the third"):
        list(run_side_by_side(fail, range(9)))
    assert torch.get_num_threads() == 3
    assert list(run_side_by_side(fail, [])) == []

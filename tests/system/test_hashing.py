from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_da.system.hashing import hash_batches, hash_entries, hash_file, hash_lines, hash_tensors


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 5000)
    assert hash_file(file) == sha256(file.read_bytes()).hexdigest()


def test_the_digest_of_lines_is_that_of_their_file() -> None:
    assert hash_lines(iter(["größer", "", "c"])) == sha256("größer\n\nc\n".encode()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_every_bit_of_a_tensor_counts(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[1, 0, 1], [0, 0, 1]]).to(dtype)
    same = tensor.mT.contiguous().mT  # lies in memory the other way round
    assert hash_tensors([("x", tensor)]) == hash_tensors([("x", same)])
    changed = tensor.clone()
    changed[1, 1] = 1
    others = [("x", changed), ("y", tensor), ("x", tensor.flatten()), ("x", tensor.to(torch.float64))]
    assert len({hash_tensors([other]) for other in (*others, ("x", tensor))}) == 5


def test_large_integers_are_told_apart() -> None:
    assert hash_tensors([("x", torch.tensor([2**53]))]) != hash_tensors([("x", torch.tensor([2**53 + 1]))])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.uint8, torch.complex64])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_place_in_memory_does_not_count(dtype: torch.dtype, count: int) -> None:
    """Read as words, whatever the number of bytes and where they begin."""
    long = torch.arange(20).to(dtype)
    digests = {hash_entries(long[start : start + count].clone()) for start in range(10)}
    assert digests == {hash_entries(long[start : start + count]) for start in range(10)}
    assert len(digests) == 10


def test_signs_zeros_and_places_are_told_apart() -> None:
    ones = torch.ones(2**12, dtype=torch.float64)
    zeros = torch.zeros(8)
    changed = ones.clone()
    changed[:2] = -1  # the highest bits of two words
    tensors = [ones, -ones, changed, ones[:-1], zeros, zeros[:4], zeros.to(torch.int32)[:3], torch.zeros(0)]
    assert len({hash_entries(tensor) for tensor in tensors}) == len(tensors)
    two = torch.tensor([1, 2])
    assert hash_entries(two) != hash_entries(two.flip(0))


def test_large_tensors_are_read_to_their_end() -> None:
    first, other = torch.zeros(2**21 + 5), torch.zeros(2**21 + 5)
    other[-1] = 1
    assert hash_entries(first) != hash_entries(other)


def test_all_that_batches_hold_counts() -> None:
    def batch(**changes: Any) -> dict[str, Any]:
        return {"ids": torch.ones(2), "names": ["a", "b"], "inner": {"x": torch.zeros(1), "flag": True}} | changes

    others = [
        [batch(), batch()], [batch(names=["a", "c"])], [batch(inner={"x": torch.ones(1), "flag": True})],
        [batch(ids=torch.zeros(2))], [batch(inner={"x": torch.zeros(1)})], [],
    ]  # fmt: skip
    assert hash_batches([batch()]) == hash_batches([batch()])
    assert len({hash_batches(batches) for batches in [[batch()], *others]}) == 7

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch

from lora_da.system.hashing import hash_file, hash_lines, hash_tensors


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

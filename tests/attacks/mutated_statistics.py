"""Files of statistics with any bytes changed: refused with the file's name, or harmless."""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path

import torch

from attacks.rounds import main
from lora_da import CollectionConfig, Statistics, collect_statistics
from lora_da.statistics.storage import load_statistics, save_statistics
from models import batches_of, causal_examples, tiny_llama

BATCHES = batches_of(causal_examples(6), 2)
CONFIG = CollectionConfig(output_factor="full")


@functools.cache
def statistics() -> Statistics:
    """Those that are written; no test changes them."""
    return collect_statistics(tiny_llama(), BATCHES[:2], CONFIG, progress=False)


def _flip_bits(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 2, 100])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _flip_header(content: bytearray, chance: random.Random) -> None:
    content[chance.randrange(min(4000, len(content)))] = chance.randrange(256)


def _truncate(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def _move(content: bytearray, chance: random.Random) -> None:
    start, length = chance.randrange(len(content)), chance.randrange(1, 64)
    content[start : start + length] = content[-length:]


MUTATIONS = [_flip_bits, _flip_header, _truncate, _move]


def attack(number: int) -> list[str]:
    """Change a file's bytes: it is refused by name, or what is read is what was written."""
    chance = random.Random(number)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "sums.safetensors"
        save_statistics(statistics(), file)
        content = bytearray(file.read_bytes())
        MUTATIONS[number % len(MUTATIONS)](content, chance)
        file.write_bytes(content)
        try:
            found = load_statistics(file)
        except ValueError as error:
            return [] if "sums.safetensors" in str(error) else [f"no file is named: {error}"]
    same = all(torch.equal(found.gradient_sums[name], sums) for name, sums in statistics().gradient_sums.items())
    return [] if same and found.tokens == statistics().tokens else ["other statistics were read"]


if __name__ == "__main__":
    main(attack, 1000)

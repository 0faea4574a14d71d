"""The files of a model's folder, before a model is made of them: whether they can be read, and what they claim."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lora_da.system.json_file import read_object

LAYERS = 4_096
"""The most layers, blocks or experts that a model may claim; each takes time to make, even without weights."""

_WIDTH = 2**24  # of a layer, or of a vocabulary
_COUNTS = re.compile(r"(?:n|num)_(?:\w+_)?(?:layers?|blocks?|experts|groups|stages)|(?:en|de)coder_layers|depths?")
_SIZES = re.compile(r"(?:\w+_)?(?:hidden|intermediate|embedding|embed|vocab|ffn|projection)_(?:size|dim)|d_\w+|n_embd")
_READ = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "model.safetensors.index.json",
)


def check_folder(folder: Path) -> None:
    """Refuse a model's folder with a damaged file of JSON, or a configuration that no model has.

    Raises:
        ValueError: The message names the file and the place.
    """
    for name in _READ:
        if (folder / name).is_file():
            content = read_object(folder / name, "save the model and its tokenizer anew", strict=False)
            if name == "config.json":
                check_claims(content, folder / name)


def check_claims(config: dict[str, Any], where: Path) -> None:
    """Refuse a configuration with more layers or wider ones than any model has: making it would not end.

    Raises:
        ValueError: It has.
    """
    left: list[Any] = [config]
    while left:
        found = left.pop()
        entries = found.items() if isinstance(found, dict) else ((None, part) for part in found)
        for name, value in entries:
            if isinstance(value, dict | list):
                left.append(value)
            most = LAYERS if name and _COUNTS.fullmatch(name) else _WIDTH if name and _SIZES.fullmatch(name) else None
            if most is not None and isinstance(value, int | float) and value > most:
                raise ValueError(f"{where} claims {name} {value:,}, and more than {most:,} are not read: it is damaged")

"""Domains: texts as blocks of tokens, or as examples of a class, in splits that share none."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from lora_da.loading import load_rows
from lora_da_bench.laboratory.data.classification import CLASSIFICATIONS, encode_texts
from lora_da_bench.laboratory.data.examples import Examples

DOMAINS: dict[str, tuple[str, tuple[str, ...]]] = {
    "shakespeare": ("text/tinyshakespeare.txt", ("text",)),
    "gsm8k": ("gsm8k/train.jsonl", ("question", "answer")),
    "wikitext": ("text/wikitext2-valid.txt", ("text",)),
    "arc-easy": ("commonsense/ARC-Easy/train.json", ("instruction", "output")),
    "boolq": ("commonsense/boolq/train.json", ("instruction", "output")),
}
"""By name, the file below the folder of data, and the columns whose texts are joined."""

_SPLIT_SEED = 0  # the held-out blocks are the same for every seed of a run, so that differences are paired by block


@dataclass(frozen=True)
class Domain:
    """A domain's examples, none of them in two splits: blocks of equally many tokens, or texts with a class.

    Attributes:
        name: As it is asked for.
        pool: From which a seed draws its calibration and its training examples.
        selection: Selects the learning rate.
        test: Is reported.
        fingerprint: The first digits of the SHA-256 of all examples.
    """

    name: str
    pool: Examples
    selection: Examples
    test: Examples
    fingerprint: str

    def draw(self, calibration: int, training: int, seed: int) -> tuple[Examples, Examples]:
        """Draw the examples of a seed; calibration and training share none.

        Args:
            calibration: How many the statistics are taken from.
            training: How many are trained on. A text that has fewer is passed over again, in a new order.
            seed: Of the drawing; the same for every method.
        """
        generator = torch.Generator().manual_seed(seed)
        drawn, rest = torch.randperm(len(self.pool), generator=generator).split(
            [calibration, len(self.pool) - calibration]
        )
        passes = [rest[torch.randperm(len(rest), generator=generator)] for _ in range(-(-training // len(rest)))]
        return self.pool[drawn], self.pool[torch.cat(passes)[:training]]


def load_domain(name: str, tokenizer: Any, *, length: int, selection: int, test: int, needed: int) -> Domain:
    """Read a domain and part it.

    Args:
        name: Of :data:`DOMAINS` or of the classifications, or a file of plain text.
        tokenizer: The model's.
        length: Tokens a block, or of the longest text that has a class.
        selection: Examples that select.
        test: Examples that are reported.
        needed: The least number of examples that must be left.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The name is unknown, ``LORA_DA_DATA`` is not set, or the text is too short.
    """
    if name in CLASSIFICATIONS:
        examples = encode_texts(CLASSIFICATIONS[name], find_data(), tokenizer, length)
    else:
        examples = _cut_text(name, tokenizer, length)
    if len(examples) < selection + test + needed:
        raise ValueError(
            f"{name} has {len(examples)} blocks of {length} tokens, and {selection + test + needed} are needed: give a "
            "longer text, or shorter blocks or splits"
        )
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    splits = order.split([selection, test, len(examples) - selection - test])
    held_out, reported, pool = (examples[split.sort().values] for split in splits)
    return Domain(name, pool, held_out, reported, _fingerprint(examples))


def _cut_text(name: str, tokenizer: Any, length: int) -> Examples:
    """A text as blocks."""
    path, columns = _find(name)
    rows = load_rows(str(path), sample_by="document")
    text = "\n\n".join("\n".join(str(row[column]) for column in columns) for row in rows)
    # Piece by piece: a tokenizer takes far longer over one text of a million characters.
    pieces = [text[start : start + 10_000] for start in range(0, len(text), 10_000)]
    ids = [
        token for piece in tokenizer(pieces, add_special_tokens=False, verbose=False)["input_ids"] for token in piece
    ]
    blocks = torch.tensor(ids[: len(ids) // length * length]).reshape(-1, length)
    return Examples(blocks, torch.ones_like(blocks))


def _fingerprint(examples: Examples) -> str:
    parts = [examples.input_ids, *([] if examples.classes is None else [examples.classes])]
    return sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:12]


def _find(name: str) -> tuple[Path, tuple[str, ...]]:
    """The file of a domain and its columns."""
    if Path(name).suffix == ".txt":
        return Path(name), ("text",)
    if name not in DOMAINS:
        raise ValueError(
            f"there is no domain {name!r}: give a .txt file, or one of {', '.join([*DOMAINS, *CLASSIFICATIONS])}"
        )
    file, columns = DOMAINS[name]
    return find_data() / file, columns


def find_data() -> Path:
    """Find the folder of data, which ``LORA_DA_DATA`` names.

    Raises:
        ValueError: It is not set.
    """
    if "LORA_DA_DATA" not in os.environ:
        raise ValueError("LORA_DA_DATA is not set: it names the folder that holds text/, gsm8k/ and commonsense/")
    return Path(os.environ["LORA_DA_DATA"])


def find_model(names: Collection[str]) -> str:
    """Find the usual model for some domains: MiniLM to classify, else the tiny language model beside the data.

    Raises:
        ValueError: There is none.
    """
    if all(name in CLASSIFICATIONS for name in names):
        return "minilm"
    folder = find_data().parent / "models" / "stories260K"
    if not folder.is_dir():
        raise ValueError(f"there is no {folder}: give --model, the folder of a small language model")
    return str(folder)


def count_classes(names: Collection[str]) -> int | None:
    """How many classes the model of some domains has to tell apart; None for a language model.

    Raises:
        ValueError: One model can't serve them all.
    """
    found = {CLASSIFICATIONS[name].classes if name in CLASSIFICATIONS else None for name in names}
    if len(found) > 1:
        raise ValueError(f"{', '.join(names)}: text and classes, or several numbers of classes, need a run each")
    return found.pop()

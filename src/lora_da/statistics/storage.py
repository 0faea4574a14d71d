"""Statistics as one safetensors file: the sums as tensors, the rest as metadata."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lora_da.config import CollectionConfig
from lora_da.statistics.halves import Half
from lora_da.statistics.sums import ModelIdentity, Statistics
from lora_da.statistics.validity import check_sums
from lora_da.system.files import atomic_path
from lora_da.system.hashing import hash_file, hash_lines, hash_tensors

_FORMAT = "lora-da-statistics"
_DIGEST = "digest"  # of all else in the file, since version 2
_VERSION = 2
_KINDS = ("gradient", "output", "input", "half")


def save_statistics(
    statistics: Statistics, path: Path | str, *, overwrite: bool = False, label: str | None = None
) -> None:
    """Write statistics to one file, atomically.

    Args:
        statistics: What to write.
        path: The file, by convention ``*.safetensors``.
        overwrite: Replace a file that is there already.
        label: What the file says that it belongs to, if it is no more than a part of something.

    Raises:
        FileExistsError: The file exists and ``overwrite`` is false.
        OSError: It can't be written, because the disk is full, say.
    """
    tensors = _tensors_of(statistics)
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "label": label,
        "model": {"name": statistics.model.name, "revision": statistics.model.revision},
        "config": asdict(statistics.config),
        "examples": statistics.examples,
        "loss_sum": statistics.loss_sum,
        "population_size": statistics.population_size,
        "batch_dependent": statistics.batch_dependent,
        "wholly_counted": statistics.wholly_counted,
        "half_examples": statistics.half.examples,
        "tokens": statistics.tokens,
        "input_groups": statistics.input_groups,
    }
    with atomic_path(path, overwrite=overwrite) as draft:
        try:
            text = json.dumps(about)
            save_file(tensors, draft, metadata={_FORMAT: text, _DIGEST: _hash_content(text, tensors)})
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OSError(f"can't write {path}: {error}") from error


def hash_statistics(statistics: Statistics) -> str:
    """Return the digest of all sums, by their names."""
    return hash_tensors(sorted(_tensors_of(statistics).items()))


def identify_file(path: Path | str) -> str:
    """Return the digest of what a file of statistics holds; its bytes differ, as the header has no order.

    Of a file without one, it is that of its bytes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            digest = (file.metadata() or {}).get(_DIGEST)
    except SafetensorError:
        digest = None
    return digest or hash_file(Path(path))


def _tensors_of(statistics: Statistics) -> dict[str, Tensor]:
    tensors = {"signature": statistics.model.signature}
    sums = (
        statistics.gradient_sums,
        statistics.output_sums,
        statistics.input_sums,
        statistics.half.gradient_sums,
    )
    for kind, by_layer in zip(_KINDS, sums, strict=True):
        tensors |= {f"{kind}/{name}": tensor.detach().cpu().contiguous() for name, tensor in by_layer.items()}
    return tensors


def load_statistics(path: Path | str, *, device: str | torch.device = "cpu", label: str | None = None) -> Statistics:
    """Read what :func:`save_statistics` wrote.

    Args:
        path: The file.
        device: Where the tensors go.
        label: What the file must say that it belongs to.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or damaged, belongs to something else, was not written by this library, or by
            a later version of it, or with settings that are no more; or what it holds can't be statistics.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no statistics file {path}")
    about, tensors = _read(path, str(device))
    if about.get("label") != label:
        raise ValueError(f"{path} belongs to {about.get('label') or 'nothing'}, not to {label or 'nothing'}")
    try:
        statistics = _made_of(about, tensors, path)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} lacks a part of the statistics: {error}") from error
    try:
        check_sums(statistics)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return statistics


def _read(path: Path | str, device: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the file says of itself, and its tensors."""
    try:
        with safe_open(path, framework="pt", device=device) as file:
            metadata = file.metadata() or {}
            if _FORMAT not in metadata:
                raise ValueError(f"{path} is a safetensors file, but not one with lora-da statistics")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from error
    text = metadata[_FORMAT]
    damaged = f"{path} is damaged: what it holds is not what was written. Collect the statistics anew"
    if _DIGEST in metadata and metadata[_DIGEST] != _hash_content(text, tensors):
        raise ValueError(damaged)
    try:
        about = json.loads(text)
        version = about["version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(damaged) from error
    if version not in range(1, _VERSION + 1):
        raise ValueError(f"{path} has version {version} of the format; this lora-da reads up to {_VERSION}")
    if version > 1 and _DIGEST not in metadata:
        raise ValueError(damaged)
    return about, tensors


def _made_of(about: dict[str, Any], tensors: dict[str, Tensor], path: Path | str) -> Statistics:
    layers = list(about["tokens"])
    return Statistics(
        gradient_sums={name: tensors[f"gradient/{name}"] for name in layers},
        output_sums={name: tensors[f"output/{name}"] for name in layers},
        input_sums={name: tensors[f"input/{name}"] for name in dict.fromkeys(about["input_groups"].values())},
        input_groups=about["input_groups"],
        tokens=about["tokens"],
        examples=about["examples"],
        loss_sum=about["loss_sum"],
        config=_config_of(about["config"], path),
        model=ModelIdentity(**about["model"], signature=tensors["signature"].cpu()),
        population_size=about["population_size"],
        batch_dependent=about["batch_dependent"],
        # Earlier files lack these.
        wholly_counted=tuple(about.get("wholly_counted", ())),
        half=Half(
            {name: tensors[f"half/{name}"] for name in layers if f"half/{name}" in tensors},
            about.get("half_examples", 0),
        ),
    )


def _hash_content(text: str, tensors: dict[str, Tensor]) -> str:
    return hash_lines([text, hash_tensors(sorted(tensors.items()))])


def is_statistics_file(path: Path | str) -> bool:
    """Say whether a file is one that :func:`save_statistics` wrote, by its head alone."""
    try:
        with safe_open(path, framework="pt") as file:
            return _FORMAT in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _config_of(kept: dict[str, Any], path: Path | str) -> CollectionConfig:
    """The settings of a file; those of lora-da 0.1 have two more."""
    kept = dict(kept)
    kept.pop("accumulation_dtype", None)
    counted = kept.pop("counted_tokens", "attended")
    if counted != "attended":
        raise ValueError(
            f"{path} was written by lora-da 0.1 with counted_tokens={counted!r}, and now all attended tokens are "
            "counted: collect the statistics anew"
        )
    return CollectionConfig(**kept)

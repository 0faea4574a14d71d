"""Statistics as one safetensors file: the sums as tensors, the rest as metadata."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lora_da.config import CollectionConfig
from lora_da.statistics.sums import ModelIdentity, Statistics
from lora_da.system.files import atomic_path

_FORMAT = "lora-da-statistics"
_VERSION = 1
_KINDS = ("gradient", "output", "input")


def save_statistics(statistics: Statistics, path: Path | str, *, overwrite: bool = False) -> None:
    """Write statistics to one file, atomically.

    Args:
        statistics: What to write.
        path: The file, by convention ``*.safetensors``.
        overwrite: Replace a file that is there already.

    Raises:
        FileExistsError: The file exists and ``overwrite`` is false.
        OSError: It can't be written, because the disk is full, say.
    """
    tensors = {"signature": statistics.model.signature}
    sums = (statistics.gradient_sums, statistics.output_sums, statistics.input_sums)
    for kind, by_layer in zip(_KINDS, sums, strict=True):
        tensors |= {f"{kind}/{name}": tensor.detach().cpu().contiguous() for name, tensor in by_layer.items()}
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "model": {"name": statistics.model.name, "revision": statistics.model.revision},
        "config": asdict(statistics.config),
        "examples": statistics.examples,
        "loss_sum": statistics.loss_sum,
        "population_size": statistics.population_size,
        "batch_dependent": statistics.batch_dependent,
        "wholly_counted": statistics.wholly_counted,
        "tokens": statistics.tokens,
        "input_groups": statistics.input_groups,
    }
    with atomic_path(path, overwrite=overwrite) as draft:
        try:
            save_file(tensors, draft, metadata={_FORMAT: json.dumps(about)})
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OSError(f"can't write {path}: {error}") from error


def load_statistics(path: Path | str, *, device: str | torch.device = "cpu") -> Statistics:
    """Read what :func:`save_statistics` wrote.

    Args:
        path: The file.
        device: Where the tensors go.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated, was not written by this library, or by a later version of it, or with
            settings that are no more.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no statistics file {path}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if _FORMAT not in metadata:
                raise ValueError(f"{path} is a safetensors file, but not one with lora-da statistics")
            about = json.loads(metadata[_FORMAT])
            if about.get("version") != _VERSION:
                raise ValueError(
                    f"{path} has version {about.get('version')} of the format; this lora-da reads {_VERSION}"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from error

    try:
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
            wholly_counted=tuple(about.get("wholly_counted", ())),  # earlier files lack it
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks a part of the statistics: {error}") from error


def is_statistics_file(path: Path | str) -> bool:
    """Say whether a file is one that :func:`save_statistics` wrote, by its head alone."""
    try:
        with safe_open(path, framework="pt") as file:
            return _FORMAT in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _config_of(kept: dict[str, Any], path: Path | str) -> CollectionConfig:
    """The settings of a file; those of version 0.1 have two more."""
    kept = dict(kept)
    kept.pop("accumulation_dtype", None)
    counted = kept.pop("counted_tokens", "attended")
    if counted != "attended":
        raise ValueError(
            f"{path} was written by lora-da 0.1 with counted_tokens={counted!r}, and now all attended tokens are "
            "counted: collect the statistics anew"
        )
    return CollectionConfig(**kept)

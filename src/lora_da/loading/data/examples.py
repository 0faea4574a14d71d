"""Rows as training examples: tokens, labels and batches exactly as TRL's ``SFTTrainer`` makes them."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from lora_da.loading.data.row_check import touching_rows
from lora_da.loading.data.row_format import RowFormat, warn_of_unused_columns
from lora_da.loading.data.trl_rows import as_trl_rows, without_progress_bars
from lora_da.system.random_state import preserve_random_state


@dataclass(frozen=True)
class PreparedExamples:
    """Tokenised examples and what makes batches of them.

    Attributes:
        rows: The columns ``input_ids`` and ``labels``, lists of int; labels are -100 where no loss is taken.
        collate: TRL's collator, from such rows to ``input_ids``, ``attention_mask`` and ``labels``, each (B, S) int64.
    """

    rows: datasets.Dataset
    collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(ids) for ids in self.rows["input_ids"]]

    def batches(self, batch_size: int) -> DataLoader[Any]:
        """Padded batches, the shortest examples first, so that they hold little padding."""
        lengths = self.lengths
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        dataset: Any = self.rows.select(order)
        return DataLoader(dataset, batch_size=batch_size, collate_fn=self.collate)


def prepare_examples(
    rows: datasets.Dataset, tokenizer: Any, form: RowFormat, places: Sequence[int] | None = None
) -> PreparedExamples:
    """Tokenise rows and mark the tokens that the loss counts, by TRL's own preparation, so that training agrees.

    A text ends with the EOS token and counts as a whole; so does a conversation, which the chat template ends, unless
    ``form.assistant_only_loss``. Of a prompt with a completion the completion counts, with its EOS token.

    Args:
        rows: The data set.
        tokenizer: A Hugging Face tokenizer; its padding token is set if it has none.
        form: What the columns are called and how long examples may be.
        places: Which rows of the data set to take; by default all.

    Returns:
        The examples. Those with nothing to learn from within ``form.max_length`` are left out, with a warning.

    Raises:
        ValueError: Any of the rows is incomplete or malformed (the message names its place in ``rows``), the tokenizer
            lacks what the data need, or nothing is left.
    """
    chosen = as_trl_rows(rows, form, tokenizer)
    if places is not None:
        chosen = chosen.select(places)
    chosen = _without_blank_texts(chosen)
    warn_of_unused_columns(rows.column_names, form)
    touching = touching_rows(chosen)
    if touching:
        warnings.warn(
            f"{touching} of {len(chosen)} prompts meet their completion without white space between them, and are "
            "joined as they are; end the prompts with a space or a line break if that is not meant",
            stacklevel=2,
        )
    trainer = _preparing_trainer(chosen, tokenizer, form)
    dataset: Any = trainer.train_dataset
    examples = dataset.select_columns(["input_ids", "labels"])
    # A causal model predicts no first token, so a label there is no label.
    learnable = [i for i, labels in enumerate(examples["labels"]) if any(label != -100 for label in labels[1:])]
    advice = (
        f"of {len(chosen)} examples have no token to learn from within {form.max_length} tokens; raise --max-length"
    )
    if not learnable:
        raise ValueError(f"All {advice}.")
    if len(learnable) < len(chosen):
        warnings.warn(f"{len(chosen) - len(learnable)} {advice} to keep them. They are left out.", stacklevel=2)
    return PreparedExamples(examples.select(learnable), trainer.data_collator)


def _without_blank_texts(rows: datasets.Dataset) -> datasets.Dataset:
    if "text" not in rows.column_names:
        return rows
    filled = [place for place, text in enumerate(rows["text"]) if text.strip()]
    if not filled:
        raise ValueError("All texts are empty; give a data set with at least one example.")
    if len(filled) < len(rows):
        warnings.warn(f"{len(rows) - len(filled)} of {len(rows)} texts are empty, and left out", stacklevel=3)
    return rows.select(filled)


def _preparing_trainer(rows: datasets.Dataset, tokenizer: Any, form: RowFormat) -> SFTTrainer:
    """A trainer of a model that is next to nothing: what it makes of the data depends on the tokenizer alone."""
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    with tempfile.TemporaryDirectory() as folder, preserve_random_state(), without_progress_bars():
        settings = SFTConfig(
            output_dir=folder,
            max_length=form.max_length,
            assistant_only_loss=form.assistant_only_loss,
            report_to="none",
            use_cpu=True,
            bf16=False,
            # In a job, the processes that have joined it stay as they are.
            accelerator_config={"use_configured_state": joined},
        )
        return SFTTrainer(LlamaForCausalLM(config), settings, train_dataset=rows, processing_class=tokenizer)

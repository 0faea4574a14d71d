"""The calibration sample: which rows of the data are read, and what they are as examples."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass
from typing import Any

from lora_da.loading.data.examples import PreparedExamples, prepare_examples
from lora_da.loading.data.row_format import RowFormat
from lora_da.loading.data.rows import fingerprint, load_rows
from lora_da.workflows.settings import Calibration


@dataclass(frozen=True)
class CalibrationSample:
    """Examples to initialise from, and the data set that they were drawn from.

    Attributes:
        examples: The tokenised examples.
        row_count: Rows of the whole data set, which fine-tuning will see.
        about: What identifies the data and the draw, for the record.
    """

    examples: PreparedExamples
    row_count: int
    about: dict[str, Any]


def sample_indices(count: int, examples: int, seed: int) -> list[int]:
    """Which of ``count`` rows are the calibration sample: a random one, in the order of the data set."""
    return sorted(random.Random(seed).sample(range(count), min(examples, count)))


def warn_of_few(found: int, wanted: int, what: str) -> None:
    """Warn where fewer calibration examples are read than were asked for."""
    if found < wanted:
        warnings.warn(
            f"{what.format(f'{found:,}')}, fewer than the {wanted:,} calibration examples asked for: all of them are "
            "read",
            stacklevel=3,
        )


def read_sample(
    data: str, split: str, form: RowFormat, tokenizer: Any, calibration: Calibration, seed: int
) -> CalibrationSample:
    """Read a data set as :func:`load_rows` does, draw the calibration sample and tokenise it, all of it once.

    Raises:
        FileNotFoundError: There are no such data.
        ValueError: The data or one of the rows can't be used; the message names the row.
    """
    rows = load_rows(data, split)
    about = {
        "data": data,
        "split": split,
        "rows": len(rows),
        "data_fingerprint": fingerprint(rows),
        "calibration": {"examples": calibration.examples, "batch_size": calibration.batch_size, "seed": seed},
        "max_length": form.max_length,
        "assistant_only_loss": form.assistant_only_loss,
    }
    warn_of_few(len(rows), calibration.examples, "the data have {} rows")
    places = sample_indices(len(rows), calibration.examples, seed)
    return CalibrationSample(prepare_examples(rows, tokenizer, form, places), len(rows), about)

"""Multiple choice: which candidate does the model find most likely?"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import datasets
from lora_da.loading.data import Columns, collator, resolve_columns, tokenize
from torch import Tensor

from lora_da_bench.running.evaluation import item_losses
from lora_da_bench.running.quiet import bar
from lora_da_bench.tasks.columns import cells, texts
from lora_da_bench.tasks.task import Answer, Task

_MARK = "Answer format:"


@dataclass(frozen=True, kw_only=True)
class Choice(Task):
    """Multiple choice by likelihood.

    The candidates are a row's own, or, in the format of LLM-Adapters' commonsense sets, those after the prompt's last
    ``Answer format:``, as in ``Answer format: true/false``. Each is put where the answer stands in the completion ("the
    correct answer is true"); the completion may also be the answer itself. The candidate whose completion, its
    end-of-sequence token included, has the highest log-probability given the prompt wins: **sums are compared, not
    means over tokens**. In LLM-Adapters' format all candidates have the same shape; where yours differ in length, sums
    favour the short ones.

    Attributes:
        prompt: The column with the question.
        completion: The column with the text to learn, in which the answer occurs once.
        label: The column with the answer, one of the candidates; that of the completion where it is the answer itself.
        choices: The column with the list of candidates, if there is one.
        max_length: Longer examples lose their end in training and in losses; candidates are scored whole.
    """

    prompt: str = "instruction"
    completion: str = "output"
    label: str = "answer"
    choices: str | None = None
    max_length: int = 1024

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
        """See :meth:`Task.encode`."""
        return self._tokenized(rows, tokenizer, self.max_length)

    def _tokenized(self, rows: datasets.Dataset, tokenizer: Any, max_length: int) -> datasets.Dataset:
        columns = resolve_columns(rows.column_names, Columns(prompt=self.prompt, completion=self.completion))
        return tokenize(rows, tokenizer, columns, max_length)

    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], dict[str, Tensor]]:
        """See :meth:`Task.collator`."""
        return collator(tokenizer)

    def answer(self, model: Any, tokenizer: Any, rows: datasets.Dataset, batch_size: int) -> list[Answer]:
        """See :meth:`Task.answer`; a batch holds all candidates of ``batch_size`` rows.

        Each output lists the candidates with their scores and numbers of tokens. A model that gives a score that is
        not a number has predicted nothing.

        Raises:
            ValueError: A row has no text, candidates or answer, or not one place for them; the message names it.
        """
        prompts, expected = texts(rows, self.prompt), self._expected(rows)
        candidates = self._candidates(rows)
        completions = self._completions(rows)
        variants = {
            self.prompt: [prompt for prompt, names in zip(prompts, candidates, strict=True) for _ in names],
            self.completion: list(chain.from_iterable(completions)),
        }
        examples = self._tokenized(datasets.Dataset.from_dict(variants), tokenizer, sys.maxsize).to_list()
        ends = list(accumulate(map(len, candidates)))
        places = [range(end - len(names), end) for end, names in zip(ends, candidates, strict=True)]
        # Longest first: batches need little padding, and memory runs out in the first one if at all.
        order = sorted(range(len(places)), key=lambda row: -max(len(examples[i]["input_ids"]) for i in places[row]))
        batches = [
            list(chain.from_iterable(places[row] for row in order[start : start + batch_size]))
            for start in range(0, len(order), batch_size)
        ]
        collate = self.collator(tokenizer)
        losses = item_losses(
            model, (collate([examples[i] for i in batch]) for batch in bar(batches, desc="Scoring candidates"))
        )
        scored = dict(zip(chain.from_iterable(batches), zip(losses.losses, losses.labels, strict=True), strict=True))
        return [
            _answer(names, [scored[i] for i in place], right)
            for names, place, right in zip(candidates, places, expected, strict=True)
        ]

    def check(self, rows: datasets.Dataset) -> None:
        """See :meth:`Task.check`."""
        self._completions(rows)

    def _completions(self, rows: datasets.Dataset) -> list[list[str]]:
        """For each row, its completion with each of its candidates."""
        items = zip(texts(rows, self.completion), self._expected(rows), self._candidates(rows), strict=True)
        return [_variants(*item, index) for index, item in enumerate(items)]

    def _expected(self, rows: datasets.Dataset) -> list[str]:
        # Completions often begin with the space that parts them from the prompt.
        return [answer.strip() for answer in texts(rows, self.label)]

    def _candidates(self, rows: datasets.Dataset) -> list[list[str]]:
        if self.choices is not None:
            found, where = cells(rows, self.choices), f"the column {self.choices!r}"
        else:
            found = [
                prompt.rpartition(_MARK)[2].split("/") if _MARK in prompt else [] for prompt in texts(rows, self.prompt)
            ]
            where = f"its prompt after {_MARK!r} (or name a column of lists of candidates)"
        for index, names in enumerate(found):
            good = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
            if not good or len({name.strip() for name in names}) < 2:
                raise ValueError(f"Row {index} has no list of two or more candidates in {where}.")
        return [[name.strip() for name in names] for names in found]


def _variants(completion: str, answer: str, candidates: list[str], index: int) -> list[str]:
    """The completion with each candidate in the answer's place."""
    if answer not in candidates:
        raise ValueError(f"Row {index}: the answer {answer!r} is none of the candidates {', '.join(candidates)}.")
    around = re.split(rf"(?<!\w){re.escape(answer)}(?!\w)", completion)
    if len(around) != 2:
        raise ValueError(
            f"Row {index}: the answer {answer!r} must occur once in the completion {completion!r}, so that the other "
            f"candidates can be put in its place; it occurs {len(around) - 1} times."
        )
    return [around[0] + candidate + around[1] for candidate in candidates]


def _answer(candidates: list[str], losses: list[tuple[float, int]], expected: str) -> Answer:
    output = [
        {"candidate": candidate, "score": -loss, "tokens": tokens}
        for candidate, (loss, tokens) in zip(candidates, losses, strict=True)
    ]
    scores = [-loss for loss, _ in losses]
    predicted = None if any(map(math.isnan, scores)) else candidates[scores.index(max(scores))]
    return Answer(predicted == expected, predicted, expected, output)

"""Multiple choice: which candidate does the model find most likely?"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import datasets
from pydantic import Field, PositiveInt

from lora_da.loading import PreparedExamples
from lora_da_bench.tasks.item_losses import measure_item_losses
from lora_da_bench.tasks.task import Answer, Task, pair_texts, prepare_pairs, read_cells, read_texts

_MARK = "Answer format:"


@dataclass(frozen=True)
class Questions:
    """The candidates and the right one of each row, and all candidates of all rows as examples."""

    candidates: list[list[str]]
    expected: list[str]
    examples: PreparedExamples


class Choice(Task):
    """Multiple choice by likelihood.

    The candidates are a row's own, or, in the format of LLM-Adapters' commonsense sets, those after the prompt's last
    ``Answer format:``, as in ``Answer format: true/false``. Each is put where the answer stands in the completion ("the
    correct answer is true"); the completion may also be the answer itself. The candidate whose completion, its
    end-of-sequence token included, has the highest log-probability given the prompt wins: **sums are compared, not
    means over tokens**. In LLM-Adapters' format all candidates have the same shape; where yours differ in length, sums
    favour the short ones.
    """

    prompt: str = Field(default="instruction", description="the column with the question")
    completion: str = Field(
        default="output", description="the column with the text to learn, in which the answer occurs once"
    )
    label: str = Field(default="answer", description="the column with the right candidate")
    choices: str | None = Field(
        default=None,
        description='the column with lists of candidates; without it they follow "Answer format:" in the prompt, as in '
        "`true/false`",
    )
    max_length: PositiveInt = Field(
        default=1024, description="longer examples lose their end in training and in losses"
    )

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> PreparedExamples:
        """See :meth:`Task.encode`."""
        pairs = pair_texts(read_texts(rows, self.prompt), read_texts(rows, self.completion))
        return prepare_pairs(pairs, tokenizer, self.max_length)

    def pose(self, rows: datasets.Dataset, tokenizer: Any) -> Questions:
        """See :meth:`Task.pose`; candidates are tokenised as training's completions are, and not cut."""
        candidates, completions = self._candidates(rows), self._completions(rows)
        repeated = zip(read_texts(rows, self.prompt), candidates, strict=True)
        prompts = [prompt for prompt, names in repeated for _ in names]
        pairs = pair_texts(prompts, list(chain.from_iterable(completions)))
        return Questions(candidates, self._expected(rows), prepare_pairs(pairs, tokenizer, sys.maxsize))

    def answer(self, model: Any, tokenizer: Any, questions: Questions, batch_size: int) -> list[Answer]:
        """See :meth:`Task.answer`; each output lists the candidates with their scores and numbers of tokens.

        A model that gives a score that is not a number has predicted nothing.
        """
        found = measure_item_losses(model, questions.examples, batch_size)
        scored = iter(zip(found.losses, found.labels, strict=True))
        return [
            _answer(names, list(islice(scored, len(names))), expected)
            for names, expected in zip(questions.candidates, questions.expected, strict=True)
        ]

    def check(self, rows: datasets.Dataset) -> None:
        """See :meth:`Task.check`."""
        self._completions(rows)

    def _completions(self, rows: datasets.Dataset) -> list[list[str]]:
        """For each row, its completion with each of its candidates."""
        items = zip(read_texts(rows, self.completion), self._expected(rows), self._candidates(rows), strict=True)
        return [_variants(*item, index) for index, item in enumerate(items)]

    def _expected(self, rows: datasets.Dataset) -> list[str]:
        # Completions often begin with the space that parts them from the prompt.
        return [answer.strip() for answer in read_texts(rows, self.label)]

    def _candidates(self, rows: datasets.Dataset) -> list[list[str]]:
        if self.choices is not None:
            found, where = read_cells(rows, self.choices), f"the column {self.choices!r}"
        else:
            found = [
                prompt.rpartition(_MARK)[2].split("/") if _MARK in prompt else []
                for prompt in read_texts(rows, self.prompt)
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
    scores = [-loss for loss, _ in losses]
    output = [
        {"candidate": candidate, "score": score, "tokens": tokens}
        for candidate, score, (_, tokens) in zip(candidates, scores, losses, strict=True)
    ]
    predicted = None if any(map(math.isnan, scores)) else candidates[scores.index(max(scores))]
    return Answer(predicted == expected, predicted, expected, output)

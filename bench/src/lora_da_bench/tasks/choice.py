"""Multiple choice: which candidate does the model find most likely?"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from typing import Any

import datasets
from pydantic import Field, PositiveInt

from lora_da_bench.tasks.columns import read_cells, read_texts
from lora_da_bench.tasks.item_losses import measure_item_losses
from lora_da_bench.tasks.supervised_examples import join_prompt, tokenize_examples
from lora_da_bench.tasks.task import Answer, Task

_MARK = "Answer format:"


@dataclass(frozen=True)
class Question:
    """The candidates of a row, each as a tokenised example, and the right one."""

    candidates: list[str]
    examples: list[dict[str, Any]]
    expected: str

    @property
    def length(self) -> int:
        """Tokens of the longest candidate, its prompt included."""
        return max(len(example["input_ids"]) for example in self.examples)


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

    @property
    def columns(self) -> dict[str, str]:
        """See :meth:`Task.columns`."""
        own = {"prompt": self.prompt, "completion": self.completion, "label": self.label}
        return own if self.choices is None else own | {"choices": self.choices}

    def encode(self, rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
        """See :meth:`Task.encode`."""
        return _tokenized(read_texts(rows, self.prompt), read_texts(rows, self.completion), tokenizer, self.max_length)

    def pose(self, rows: datasets.Dataset, tokenizer: Any) -> Sequence[Question]:
        """See :meth:`Task.pose`; candidates are tokenised as training's completions are, and not cut."""
        expected, candidates, completions = self._expected(rows), self._candidates(rows), self._completions(rows)
        prompts = [
            prompt for prompt, names in zip(read_texts(rows, self.prompt), candidates, strict=True) for _ in names
        ]
        examples = _tokenized(prompts, list(chain.from_iterable(completions)), tokenizer, None).to_list()
        ends = accumulate(map(len, candidates))
        return [
            Question(names, examples[end - len(names) : end], right)
            for names, end, right in zip(candidates, ends, expected, strict=True)
        ]

    def answer(self, model: Any, tokenizer: Any, questions: Sequence[Question], batch_size: int) -> list[Answer]:
        """See :meth:`Task.answer`; a batch holds all candidates of ``batch_size`` questions.

        Each output lists the candidates with their scores and numbers of tokens. A model that gives a score that is
        not a number has predicted nothing.
        """
        # Longest first: batches need little padding, and memory runs out in the first one if at all.
        order = sorted(range(len(questions)), key=lambda index: -questions[index].length)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        collate = self.collator(tokenizer)
        found = measure_item_losses(
            model,
            (collate([example for index in batch for example in questions[index].examples]) for batch in batches),
        )
        scored = iter(zip(found.losses, found.labels, strict=True))
        answers = {index: _answer(questions[index], list(islice(scored, len(questions[index].candidates))))
                   for index in order}  # fmt: skip
        return [answers[index] for index in range(len(questions))]

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


def _tokenized(prompts: list[str], completions: list[str], tokenizer: Any, max_length: int | None) -> datasets.Dataset:
    joined = [join_prompt(*pair) for pair in zip(prompts, completions, strict=True)]
    pairs = datasets.Dataset.from_dict({"prompt": joined, "completion": completions})
    return tokenize_examples(pairs, tokenizer, max_length)


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


def _answer(question: Question, losses: list[tuple[float, int]]) -> Answer:
    scores = [-loss for loss, _ in losses]
    output = [
        {"candidate": candidate, "score": score, "tokens": tokens}
        for candidate, score, (_, tokens) in zip(question.candidates, scores, losses, strict=True)
    ]
    predicted = None if any(map(math.isnan, scores)) else question.candidates[scores.index(max(scores))]
    return Answer(predicted == question.expected, predicted, question.expected, output)

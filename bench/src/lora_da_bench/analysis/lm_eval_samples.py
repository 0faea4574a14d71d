"""Answers that EleutherAI's evaluation harness, lm-eval, has graded, read into a paired comparison.

``lm_eval run … --log_samples --output_path DIR`` writes a file ``samples_TASK_DATE.jsonl`` for each task, with a line
for each document and filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lora_da.system.json_file import parse_object
from lora_da_bench.analysis.significance import Comparison, compare_methods


def read_lm_eval_samples(path: Path, metric: str, filter_name: str | None = None) -> dict[str, float]:
    """Read a metric (such as ``exact_match``) of each document, by its number and hash.

    Args:
        path: The file of samples.
        metric: Its name.
        filter_name: The filter to take where a task has several, such as ``strict-match``.

    Raises:
        ValueError: A line has no such metric, or a document has several for want of a filter's name.
    """
    found: dict[str, float] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            sample = parse_object(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is no sample of lm-eval: {error}") from error
        if filter_name is not None and sample.get("filter") != filter_name:
            continue
        if metric not in sample:
            raise ValueError(f"{path}: document {sample['doc_id']} has no {metric}, but {', '.join(sample['metrics'])}")
        key = f"{sample['doc_id']} {sample['doc_hash']}"
        if key in found:
            raise ValueError(f"{path} has document {sample['doc_id']} several times: name one of its filters")
        found[key] = float(sample[metric])
    if not found:
        raise ValueError(f"{path} has no samples" + (f" of the filter {filter_name}" if filter_name else ""))
    return found


def compare_lm_eval(samples: Mapping[str, Sequence[Path]], metric: str, filter_name: str | None = None) -> Comparison:
    """Compare methods by a metric of lm-eval's of which higher is better.

    Of each method there is a file of samples for each seed, in the same order of seeds for all.

    Raises:
        ValueError: Methods have different numbers of seeds, or files different documents.
    """
    read = {
        method: [read_lm_eval_samples(path, metric, filter_name) for path in paths] for method, paths in samples.items()
    }
    documents = {frozenset(found) for group in read.values() for found in group}
    if len(documents) != 1 or len({len(group) for group in read.values()}) != 1:
        raise ValueError("methods can be compared only on the same documents and as many seeds")
    order = sorted(documents.pop())
    values = {method: np.array([[found[key] for key in order] for found in group]) for method, group in read.items()}
    return compare_methods(values, higher_is_better=True)

"""Tasks of EleutherAI's evaluation harness, lm-eval, where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any


def check_harness() -> None:
    """See that lm-eval is installed.

    Raises:
        ModuleNotFoundError: It is not; the message says how to install it.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ModuleNotFoundError("lm-eval is not installed: run `pip install 'lm-eval[hf]'`")


def run_harness(model: Any, tokenizer: Any, tasks: Sequence[str], batch_size: int, limit: int | None) -> dict[str, Any]:
    """Run tasks of lm-eval on a model in memory, its adapter with it.

    Args:
        model: A causal language model, or a PEFT model around one.
        tokenizer: Its tokenizer.
        tasks: Their names in lm-eval, with lm-eval's own number of examples in the prompt.
        batch_size: Requests handled at once.
        limit: Only the first so many documents of each task.

    Returns:
        lm-eval's own: ``results`` with standard errors, ``versions``, ``n-shot``, ``n-samples``, and ``samples``, the
        raw outputs of each task.

    Raises:
        ModuleNotFoundError: lm-eval is not installed.
    """
    check_harness()
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    adapted = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    # The batch size again: lm-eval records it, and does not look into the model for it.
    found = simple_evaluate(model=adapted, tasks=list(tasks), batch_size=batch_size, limit=limit)
    return {key: found[key] for key in ("results", "versions", "n-shot", "n-samples", "samples") if key in found}

"""The head of a classifier, which is new: drawn and fitted before statistics are taken.

A head that was just drawn sends back one random direction, whatever the task is, and G would tell what moves the
logits along that. So it is fitted first, with everything else held fixed, and the same head is every arm's start. It is
fitted to examples that training sees anyway, and not to those of the statistics, whose losses it would lower.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lora_da_bench.laboratory.data.examples import Examples

FITTED_EXAMPLES = 64
_PASSES = 2
_BATCH = 8
_LEARNING_RATE = 1e-2


def head_names(model: Any) -> list[str]:
    """Name the parts of a model of transformers that are outside its body."""
    return [name for name, part in model.named_children() if part is not model.base_model]


def fit_head(model: Any, examples: Examples, seed: int) -> None:
    """Draw the head's linear layers anew and fit them to some examples by AdamW; nothing else is changed."""
    parts = [part for name in head_names(model) for part in model.get_submodule(name).modules()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in parts:
            if isinstance(part, nn.Linear):
                part.reset_parameters()
    parameters = [parameter for part in parts for parameter in part.parameters(recurse=False)]
    model.eval().requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=0.0)
    for _ in range(_PASSES):
        for batch in examples.split(_BATCH):
            batch.losses(model).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

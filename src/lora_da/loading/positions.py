"""Whether examples fit into a model whose positions are a table, as GPT-2's and OPT's are."""

from __future__ import annotations

from typing import Any

from torch import nn


def find_position_count(model: Any) -> int | None:
    """How many positions a model has a table of; None if it computes them, for as long an example as there is."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int):
        return None
    words = model.get_input_embeddings()
    for module in model.modules():
        # Some tables begin with rows for padding (RoBERTa's) or for nothing (OPT's two).
        if isinstance(module, nn.Embedding) and module is not words and 0 <= module.num_embeddings - limit <= 2:
            skipped = 0 if module.padding_idx is None else module.padding_idx + 1
            return min(limit, module.num_embeddings - skipped)
    fixed = any(buffer.ndim == 2 and buffer.shape[0] == limit for buffer in model.buffers())  # GPT-J's
    return limit if fixed else None


def check_positions(model: Any, length: int, option: str = "--max-length") -> None:
    """Refuse examples that are longer than the model's table of positions, which would end in an index error.

    Args:
        model: The model, perhaps without memory for its weights.
        length: Tokens of the longest example.
        option: The command's option that cuts examples.

    Raises:
        ValueError: It is too long.
    """
    limit = find_position_count(model)
    if limit is not None and length > limit:
        raise ValueError(
            f"the longest example has {length} tokens, and the model positions for {limit}: give {option} {limit}"
        )

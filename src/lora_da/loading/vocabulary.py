"""Whether a model has an embedding for every token of the examples, and for the one that pads them."""

from __future__ import annotations

from typing import Any


def check_vocabulary(model: Any, tokenizer: Any, rows: Any) -> None:
    """Refuse examples with tokens that were added to the tokenizer and not to the model, which end in an index error.

    Args:
        model: The model.
        tokenizer: What made the examples.
        rows: A data set with the column ``input_ids``.

    Raises:
        ValueError: There is such a token; the message names it.
    """
    known = getattr(model.get_input_embeddings(), "num_embeddings", None)
    if known is None or len(tokenizer) <= known:
        return
    padding = -1 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    highest = max(padding, max(max(ids, default=-1) for ids in rows["input_ids"]))
    if highest >= known:
        raise ValueError(
            f"the tokenizer has the token {tokenizer.convert_ids_to_tokens(highest)!r} with the id {highest}, and the "
            f"model embeds {known}: call model.resize_token_embeddings(len(tokenizer)) and save it, or take the "
            "tokenizer that came with it"
        )

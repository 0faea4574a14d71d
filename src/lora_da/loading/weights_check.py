"""Whether a model was read whole, and is nothing but the model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any


def check_weights(name: str, model: Any, loading: Mapping[str, Any]) -> None:
    """Refuse a model some of whose weights were not found, which transformers draws at random, or that has an adapter.

    Args:
        name: What the user calls it.
        model: The model.
        loading: What transformers returns beside it for ``output_loading_info``.

    Raises:
        ValueError: It is so; the message names the weights.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            f"The model {name!r} comes with an adapter, which was loaded too; name the base model, or one into which "
            "the adapter was merged (merge_and_unload, then save_pretrained)."
        )
    missing, others = sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])
    if not missing:
        return
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    similar = difflib.get_close_matches(missing[0], others, 1, cutoff=0.5)
    found = f" Its files have {similar[0]} instead: save the model anew from what it was made of." if similar else ""
    raise ValueError(
        f"The model {name!r} lacks weights that its configuration asks for, which would be random: "
        f"{', '.join(missing[:3])}{more}. Complete the model; names with a prefix (_orig_mod., module.) come from a "
        f"wrapper, whose inner model is to be saved.{found}"
    )

"""Whether a model was read whole, and is nothing but the model."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from typing import Any


def check_weights(name: str, model: Any, loading: Mapping[str, Any]) -> None:
    """Refuse a model some of whose weights were not found, which transformers draws at random, or that has an adapter.

    Weights in its files that it has no place for are told by a warning.

    Args:
        name: What the user calls it.
        model: The model.
        loading: What transformers returns beside it for ``output_loading_info``, with ``ignore_mismatched_sizes``, as
            else it would refuse weights of another shape without a name.

    Raises:
        ValueError: It is so; the message names the weights.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            f"The model {name!r} comes with an adapter, which was loaded too; name the base model, or one into which "
            "the adapter was merged (merge_and_unload, then save_pretrained)."
        )
    for weight, shape, expected in sorted(loading["mismatched_keys"]):
        raise ValueError(
            f"The model {name!r} has the weight {weight} in the shape {tuple(shape)}, where {tuple(expected)} is asked "
            "for; take configuration and weights from one model, and of a classifier name as many classes as it has."
        )
    missing, others = sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])
    if not missing:
        inside = [other for other in others if other.startswith(f"{model.base_model_prefix}.")]
        if inside:  # and no head that is left out on purpose
            warnings.warn(
                f"the files of the model {name!r} hold weights that it does not use, as its configuration does not ask "
                f"for them: {_first(inside)}",
                stacklevel=2,
            )
        return
    similar = difflib.get_close_matches(missing[0], others, 1, cutoff=0.5)
    found = f" Its files have {similar[0]} instead: save the model anew from what it was made of." if similar else ""
    raise ValueError(
        f"The model {name!r} lacks weights that its configuration asks for, which would be random: "
        f"{_first(missing)}. Complete the model; names with a prefix (_orig_mod., module.) come from a wrapper, whose "
        f"inner model is to be saved.{found}"
    )


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

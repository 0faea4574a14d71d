"""Whether a model was read whole."""

from __future__ import annotations


def check_weights(name: str, missing: set[str]) -> None:
    """Refuse a model some of whose weights were not found: transformers draws them at random.

    Raises:
        ValueError: There are any; the message names the first ones.
    """
    if not missing:
        return
    names = sorted(missing)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    raise ValueError(
        f"The model {name!r} lacks weights that its configuration asks for, which would be random: "
        f"{', '.join(names[:3])}{more}. Complete the model; if the names in its files have a prefix (_orig_mod., "
        "module.), save it anew without it."
    )

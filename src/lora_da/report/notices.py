"""What a user should know about an initialisation, in sentences that say what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lora_da.report.layers import LayerReport


class ReportedWarning(UserWarning):
    """A warning that stands among the notices of the report as well."""


POPULATION_UNKNOWN = (
    "the population size N is not known; its variance term is left out, which hardly matters beside the sample "
    "correction (set LoraDAConfig.population_size to include it)"
)

NO_EXAMPLES_TO_SEARCH_WITH = (
    "there are no examples to search the length of the first step with, only statistics: lora_B is zero, so that "
    "training starts from the base model itself (give the data too for a step)"
)

STEP_NOT_SEARCHED = (
    "the length of the first step could not be searched for ({}): lora_B is zero, so that training starts from the "
    "base model itself"
)

LOSS_NOT_MEASURED = "the calibration loss could not be measured ({}): the adapter is initialised all the same"

# Of a unit eigenvector, relative to the largest |ω|: at a relative gap of 1e-3 it moves the subspace by 1e-3 rad.
_LARGEST_RESIDUAL = 1e-6

LARGEST_LOSS = 0.02
"""Of a direction of A or B, to rounding: bfloat16 takes 0.002 where its range is wide enough."""


def list_collection_notices(wholly_counted: Sequence[str]) -> list[str]:
    """Return the sentences that are due about statistics, given the layers of which all rows were counted."""
    if not wholly_counted:
        return []
    return [
        f"{len(wholly_counted)} layer(s) receive what does not lie along the mask of the tokens, first "
        f"{wholly_counted[0]}: all rows of their inputs are counted"
    ]


def list_precision_notices(moved: Sequence[str], lossy: Sequence[str]) -> list[str]:
    """Return the sentences that are due about the adapter's precision.

    Args:
        moved: Layers with powers of two moved from A to B.
        lossy: Layers of which rounding takes more than :data:`LARGEST_LOSS` all the same.
    """
    notices = []
    if moved:
        notices.append(
            f"A was divided and B multiplied by a power of two in {len(moved)} layer(s), first {moved[0]}, since the "
            "adapter's precision does not hold their entries as they were; the product B·A is the same, but A and B "
            "learn at other rates: a float32 adapter (PEFT's autocast_adapter_dtype=True) needs none of it"
        )
    if lossy:
        notices.append(
            f"rounding to the adapter's precision takes much of {len(lossy)} layer(s), first {lossy[0]}: keep the "
            "adapter in float32 (PEFT's autocast_adapter_dtype=True)"
        )
    return notices


def list_notices(
    reports: Mapping[str, LayerReport],
    kept_default: Mapping[str, str],
    before: float | None,
    after: float | None,
    label_tokens: float | None = None,
) -> list[str]:
    """Return the sentences that are due.

    Args:
        reports: The initialised layers.
        kept_default: Those with a reason against it.
        before: The mean loss of an example without the adapter.
        after: The same with it.
        label_tokens: How many label tokens it is the sum of, if it is one.
    """
    notices: list[str] = []
    if kept_default:
        named = "; ".join(_by_reason(kept_default))
        notices.append(f"{len(kept_default)} layer(s) keep PEFT's default init: {named}")
    few = [name for name, layer in reports.items() if layer.tokens_per_input_dimension < 1]
    if few:
        least = min(reports[name].tokens_per_input_dimension for name in few)
        notices.append(
            f"{len(few)} layer(s) saw fewer tokens than they have input dimensions (least: {least:.2f} tokens per "
            "dimension), so that damping decides much of the result: use more or longer examples"
        )
    raised = [name for name, layer in reports.items() if layer.damping_raised]
    if raised:
        notices.append(
            f"a Fisher factor of {len(raised)} layer(s) was not positive definite in float64 and its damping was "
            f"raised, first in {raised[0]}: see damping in the report, or ask for more damping"
        )
    rough = [name for name, layer in reports.items() if not layer.residual <= _LARGEST_RESIDUAL]
    if rough:
        notices.append(
            f"the eigenvectors of {len(rough)} layer(s) are not exact, first {rough[0]} (residual "
            f"{reports[rough[0]].residual:.1e}): the factors' range exceeds float64; use more input damping"
        )
    if before is not None and after is not None and not after <= before:
        unit, per = label_tokens or 1.0, "example" if label_tokens is None else "token"
        notices.append(
            f"the calibration loss rose from {before / unit:.4f} to {after / unit:.4f} per {per}: the starting point "
            'is too long a step; use init_scale="searched" or "zero"'
        )
    return notices


def _by_reason(kept_default: Mapping[str, str]) -> list[str]:
    """What is said of layers, once for all that have the same reason."""
    layers: dict[str, list[str]] = {}
    for name, reason in kept_default.items():
        layers.setdefault(reason, []).append(name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more: each' if len(names) > 1 else ''} {reason}"
        for reason, names in layers.items()
    ]

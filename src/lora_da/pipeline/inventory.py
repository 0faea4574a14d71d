"""What a call works on, piece by piece: all processes of a job must have it alike, and a checkpoint belongs to it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from lora_da.adapter.description import describe_model
from lora_da.adapter.layers import AdaptedLayer
from lora_da.distributed.agreement import check_agreement, failing_together
from lora_da.distributed.processes import Processes
from lora_da.system.hashing import hash_lines
from lora_da.system.provenance import find_versions

_REMEDY = "give all of them the same model, adapter, settings and software"


def compare_processes(
    base: nn.Module,
    adapted: Mapping[str, AdaptedLayer] | None,
    settings: Mapping[str, object],
    processes: Processes | None,
    *,
    keyed: bool = False,
) -> str:
    """Compare the model, the adapter, the settings and the software of all processes.

    Every byte of the weights is read once, unless the process is alone and needs no key.

    Args:
        base: The base model.
        adapted: The adapter's layers, if there is one.
        settings: What else was given to the call, by name; things whose text says all.
        processes: The job, if there is one; all its processes have to call.
        keyed: Whether the result is needed.

    Returns:
        A digest of the model and the software, which is what a collection belongs to beside its own settings; empty
        if nothing was read.

    Raises:
        ValueError: The processes differ; the message says which in what.
    """
    if processes is None and not keyed:
        return ""
    with failing_together(processes, "describing the model"):
        model = describe_model(base)
    software = {f"the version of {name}": version for name, version in find_versions().items()}
    if processes is not None:
        layers = {
            f"the adapter of layer {name}": f"rank {layer.rank} of {layer.shape}, scaling {layer.scaling}, "
            f"{layer.A.dtype} and {layer.B.dtype}"
            for name, layer in (adapted or {}).items()
        }
        order = {"the order of the layers": hash_lines(layers)[:16]}
        given = {name: str(value) for name, value in settings.items()}
        check_agreement(software | given | layers | order | model.shared, processes, _REMEDY)
    return hash_lines([model.digest(), repr(software)])

"""What the processes of a job have to have alike; whole jobs are in ``attacks/test_attacks``."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_da.adapter.layers import find_adapted_layers
from lora_da.distributed.processes import Processes
from lora_da.pipeline.inventory import compare_processes
from models import positionwise, with_lora

SETTINGS = {"measure_loss": True, "the loss": None}


class Beside(Processes):
    """Two processes, of which the other has some pieces that differ."""

    changes: dict[str, str]

    def gather_objects(self, value: Any, doing: str) -> list[Any]:
        if isinstance(value, dict):
            return [value, value | self.changes]
        return [value, "another digest" if isinstance(value, str) and self.changes else value]


def compared_with(**changes: str) -> str:
    beside = Beside(0, 2, torch.device("cpu"))
    object.__setattr__(beside, "changes", {name.replace("_0", " "): text for name, text in changes.items()})
    model = with_lora(positionwise(), target_modules=["once", "twice"])
    return compare_processes(model.get_base_model(), find_adapted_layers(model, "default")[0], SETTINGS, beside)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("measure_loss", "True"),
        ("the loss", "None"),
        ("the version of torch", torch.__version__.split("+")[0]),
        ("the adapter of layer twice", r"rank 4 of \(6, 6\), scaling 2\.0, torch\.float32 and torch\.float32"),
        ("the order of the layers", "[0-9a-f]{16}"),
        ("the module once", r"torch\.nn\.modules\.linear\.Linear\(in_features=6, out_features=6, bias=True\)"),
    ],
)
def test_each_piece_is_compared(name: str, own: str) -> None:
    assert compared_with()
    with pytest.raises(ValueError, match=f"process 1 differs in {name}: something else, not {own}"):
        compared_with(**{name.replace(" ", "_0"): "something else"})


def test_the_key_is_the_base_models() -> None:
    """It is the same with an adapter on it, and another one as soon as one weight differs."""
    plain, adapted, changed = positionwise(), with_lora(positionwise(), target_modules=["once"]), positionwise()
    with torch.no_grad():
        changed.twice.weight[0, 0] += 1e-6
    keys = [compare_processes(m, None, SETTINGS, None, keyed=True) for m in (plain, adapted.get_base_model(), changed)]
    assert keys[0] == keys[1] != keys[2]
    assert compare_processes(plain, None, SETTINGS, None) == ""

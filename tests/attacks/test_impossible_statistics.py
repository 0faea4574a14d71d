"""Sums that can't be statistics, and partial files that say what isn't so: refused with the layer and the file."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from attacks.mutated_statistics import BATCHES, CONFIG
from attacks.mutated_statistics import statistics as _statistics
from lora_da import LoraDAConfig, Statistics, collect_statistics, initialize_lora_da_weights
from lora_da.adapter.layers import find_adapted_layers
from lora_da.pipeline.calibration_source import CalibrationSource, open_source
from lora_da.pipeline.checkpoint import load_partial, save_partial
from lora_da.statistics.storage import _hash_content, load_statistics, save_statistics
from models import tiny_llama, with_lora


@functools.cache
def _source() -> CalibrationSource:
    return open_source(tiny_llama(), None, BATCHES, 6, None, progress=False)


LAYER, OTHER = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"


def _changed(kind: str, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Statistics:
    sums = getattr(_statistics(), kind)
    return dataclasses.replace(_statistics(), **{kind: sums | {name: change(sums[name].clone())}})


def _upper(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.triu() + matrix.triu(1) * 0.1


IMPOSSIBLE: dict[str, Callable[[], Statistics]] = {
    "negative tokens": lambda: dataclasses.replace(_statistics(), tokens=_statistics().tokens | {OTHER: -3}),
    "no examples": lambda: dataclasses.replace(_statistics(), examples=0),
    "negative examples": lambda: dataclasses.replace(_statistics(), examples=-4),
    "a population of zero": lambda: dataclasses.replace(_statistics(), population_size=0),
    "a loss that is not finite": lambda: dataclasses.replace(_statistics(), loss_sum=float("nan")),
    "no signature": lambda: dataclasses.replace(
        _statistics(), model=dataclasses.replace(_statistics().model, signature=torch.zeros(0))
    ),
    "an asymmetric input": lambda: _changed("input_sums", LAYER, _upper),
    "an asymmetric output": lambda: _changed("output_sums", OTHER, _upper),
    "a negative square": lambda: _changed("input_sums", LAYER, lambda sum_: sum_ - 2 * torch.diag(sum_.diagonal())),
    "a gradient that is not finite": lambda: _changed("gradient_sums", OTHER, lambda sum_: sum_ / 0),
    "an input that is not finite": lambda: _changed("input_sums", LAYER, lambda sum_: sum_ * float("nan")),
    "a boolean gradient": lambda: _changed("gradient_sums", OTHER, lambda sum_: sum_ > 0),
    "a complex gradient": lambda: _changed("gradient_sums", OTHER, lambda sum_: sum_.to(torch.complex64)),
    "an integer input": lambda: _changed("input_sums", LAYER, lambda sum_: sum_.long()),
    "a half output": lambda: _changed("output_sums", OTHER, lambda sum_: sum_.half()),
    "an input that broadcasts": lambda: _changed("input_sums", LAYER, lambda sum_: sum_[:1, :1]),
    "an output that broadcasts": lambda: _changed("output_sums", OTHER, lambda sum_: sum_[:1]),
    "a gradient of one row": lambda: _changed("gradient_sums", OTHER, lambda sum_: sum_[0]),
    "an input group that is not there": lambda: dataclasses.replace(
        _statistics(), input_groups=_statistics().input_groups | {OTHER: "elsewhere"}
    ),
    "other tokens than its group": lambda: dataclasses.replace(
        _statistics(), tokens=_statistics().tokens | {LAYER.replace("q_", "k_"): 1}
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_statistics_are_refused_at_each_door(case: str, tmp_path: Path) -> None:
    """By a file and by hand, with the adapter left as it was."""
    model = with_lora(tiny_llama(), trained=True)
    before = {
        name: (layer.A.clone(), layer.B.clone()) for name, layer in find_adapted_layers(model, "default")[0].items()
    }
    statistics = IMPOSSIBLE[case]()
    with pytest.raises(ValueError, match="can't be used"):
        initialize_lora_da_weights(model, config=LoraDAConfig(), statistics=statistics, progress=False)
    for name, layer in find_adapted_layers(model, "default")[0].items():
        assert torch.equal(layer.A, before[name][0])
        assert torch.equal(layer.B, before[name][1])
    if case != "an input group that is not there":  # which can't be written either
        save_statistics(statistics, tmp_path / "sums.safetensors")
        with pytest.raises(ValueError, match=r"sums\.safetensors: .*can't be used"):
            load_statistics(tmp_path / "sums.safetensors")


def _forge(file: Path, drop: str | None = None, **about: Any) -> None:
    """Change what a file says, with the digest that belongs to it."""
    with safe_open(file, framework="pt") as opened:
        said = json.loads(opened.metadata()["lora-da-statistics"])
    text, tensors = json.dumps(said | about), load_file(file)
    tensors = {name: tensor for name, tensor in tensors.items() if drop is None or drop not in name}
    save_file(tensors, file, metadata={"lora-da-statistics": text, "digest": _hash_content(text, tensors)})


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"examples": 3}, "3 examples were read, which no number of the batches holds"),
        ({"examples": 60}, "60 examples were read, which no number of the batches holds"),
        ({"label": "another"}, "belongs to another, not to part"),
        ({"config": {"loss_reduction": "mean", "output_factor": "full"}}, "collected with .*mean"),
        ({"drop": f"gradient/{OTHER}"}, "lacks a part of the statistics"),
    ],
)  # fmt: skip
def test_what_a_partial_file_says_of_itself_is_checked(about: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = tmp_path / "part.safetensors"
    save_partial(_statistics(), file)
    assert load_partial(file, _source(), CONFIG) is not None
    _forge(file, **about)
    with pytest.raises(ValueError, match=rf"part\.safetensors can't be gone on from: .*{said}.*Remove it"):
        load_partial(file, _source(), CONFIG)


def test_a_partial_file_of_other_layers_or_of_another_model(tmp_path: Path) -> None:
    narrow, other = (
        collect_statistics(model, BATCHES[:1], CONFIG, progress=False)
        for model in (tiny_llama(intermediate_size=8), tiny_llama(seed=1))
    )
    narrow = dataclasses.replace(narrow, model=_statistics().model)
    for made, said in ((narrow, "has a layer .* of shape"), (other, "of another model")):
        save_partial(made, tmp_path / "part.safetensors")
        with pytest.raises(ValueError, match=rf"part\.safetensors can't be gone on from: .*{said}"):
            load_partial(tmp_path / "part.safetensors", _source(), CONFIG)

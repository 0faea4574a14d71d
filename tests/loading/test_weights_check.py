"""Models of which a part is missing, or that are more than the model, are refused with the names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lora_da.loading.model_source import ModelSource
from lora_da.loading.models import load_model
from lora_da.loading.weights_check import check_weights


def of_peft(name: str) -> str:
    return f"base_model.model.{name.replace('q_proj', 'q_proj.base_layer')}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name: f"_orig_mod.{name}", r"and 18 more.* Its files have _orig_mod\.lm_head\.weight instead"),
        (lambda name: f"module.{name}", r" Its files have module\.lm_head\."),
        (of_peft, r" Its files have base_model\.model\.lm_head\."),
        (
            lambda name: None if "layers.1.mlp.up" in name else name,
            r"random: model\.layers\.1\.mlp\.up_proj\.weight\. Co",
        ),
        (lambda name: None if "layers.1" in name else name, r"random: model\.layers\.1\..* and 6 more\. Complete"),
    ],
)
@pytest.mark.parametrize("head", ["language model", "classifier"])
def test_weights_that_are_not_there(
    change: Callable[[str], str | None], message: str, head: str, folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folder, tmp_path / "model"))
    renamed = {change(name): weight for name, weight in load_file(folder / "model.safetensors").items()}
    kept = {name: weight for name, weight in renamed.items() if name is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks weights.*{message if head == 'language model' else ''}"):
        load_model(ModelSource(str(folder), device="cpu"), head=head, num_labels=2 if head == "classifier" else None)


def test_weights_of_another_shape_and_in_vain(folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folder, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    more = {name.replace("1", "9", 1): weights[name].clone()}
    save_file(weights | more, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"does not use.*: model\.layers\.9\.mlp\.up_proj\.weight$"):
        load_model(ModelSource(str(folder), device="cpu"))
    save_file(weights | {name: weights[name][1:].clone()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"the weight model\.layers\.1\.mlp\.up_proj\.weight in the shape"):
        load_model(ModelSource(str(folder), device="cpu"))
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(FileNotFoundError, match="model': the folder holds no complete model"):
        load_model(ModelSource(str(folder), device="cpu"))


def test_an_adapter_that_is_loaded_with_the_model(model: str, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(model)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path))
    loaded: Any = AutoModelForCausalLM
    found, loading = loaded.from_pretrained(tmp_path, output_loading_info=True)
    with pytest.raises(ValueError, match="'some/model' comes with an adapter"):
        check_weights("some/model", found, loading)

from __future__ import annotations

from torch import nn

from lora_da.adapter.identity import identify_model
from lora_da.adapter.wrapping import find_base_model
from models import LLAMA_TARGETS, tiny_llama, tiny_vit, with_lora


def test_identity_of_a_model() -> None:
    model = tiny_llama()
    model.config._name_or_path = "somebody/model"
    identity = identify_model(model)
    assert identity.name == "somebody/model"
    assert identity.signature.numel() == 256
    adapted = with_lora(model, target_modules=["embed_tokens", *LLAMA_TARGETS])
    assert identity.matches(identify_model(find_base_model(adapted)))
    assert identity.matches(identify_model(tiny_llama().bfloat16()))
    assert not identity.matches(identify_model(tiny_llama(seed=1)))
    assert identify_model(nn.Identity()).signature.numel() == 0
    assert identify_model(nn.Linear(2, 2)).name is None


def test_a_model_without_an_embedding_is_told_by_what_quantisation_leaves_alone() -> None:
    model = tiny_vit()
    identity = identify_model(model)
    assert identity.signature.numel() == 256  # of the patches' convolution
    model.vit.layers[0].mlp.fc1.weight.data.zero_()
    assert identity.matches(identify_model(find_base_model(with_lora(model, target_modules="all-linear"))))
    assert not identity.matches(identify_model(tiny_vit(seed=1)))

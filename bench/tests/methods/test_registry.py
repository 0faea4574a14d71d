"""Names, the frozen A, and what is refused."""

from __future__ import annotations

import pytest
import torch

from lora_da_bench.methods import registry
from lora_da_bench.methods.method import Method
from lora_da_bench.methods.registry import METHODS, get_method, register_method
from methods.setups import initialised, logits_of, setup_of


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "METHODS", dict(METHODS))


def test_every_method_is_known_by_its_name() -> None:
    assert len(METHODS) == 14
    for name, method in METHODS.items():
        assert method.name == name
        assert method.description
        assert "\n" not in method.description
        assert get_method(name) == method


@pytest.mark.usefixtures("own_registry")
def test_registering() -> None:
    own = Method("own", "Mine.", METHODS["lora"].initialise)
    register_method(own)
    assert get_method("own") == own
    assert get_method("own+frozen-a").description == "Mine.; A is not trained (LoRA-FA)"
    with pytest.raises(ValueError, match="'own' already"):
        register_method(own)
    with pytest.raises(ValueError, match="separates the modifier"):
        register_method(Method("own+mine", "Mine.", own.initialise))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lora-db", r"no method 'lora-db'; did you mean lora-da\?"),
        ("quite-another", "no method 'quite-another'; there are lora, pissa"),
        ("", "no method ''"),
        ("lora+frozen-b", "no modifier 'frozen-b' of methods; there is frozen-a"),
        ("lora+", "no modifier ''"),
        ("lora+frozen-a+frozen-a", "no modifier 'frozen-a.frozen-a'"),
    ],
)
def test_what_is_not_known_is_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_method(spec)


@pytest.mark.parametrize("name", ["lora", "lora-da", "pissa"])
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_frozen_a_freezes_a_alone(name: str, kind: str) -> None:
    model = initialised(name, setup_of(kind))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    frozen_model = initialised(f"{name}+frozen-a", setup_of(kind))
    frozen = {n for n, p in frozen_model.named_parameters() if p.requires_grad}
    assert trained - frozen == {n for n in trained if "lora_A" in n}
    assert trained - frozen
    setup = setup_of(kind)
    assert torch.equal(logits_of(frozen_model, setup), logits_of(model, setup))

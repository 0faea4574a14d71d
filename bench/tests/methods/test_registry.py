"""Names, modifiers, and what is refused."""

from __future__ import annotations

import pytest
import torch

from lora_da_bench.methods import registry
from lora_da_bench.methods.method import Method
from lora_da_bench.methods.registry import METHODS, get_method, register_method
from methods.setups import initialised, layers_in, logits_of, setup_of


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "METHODS", dict(METHODS))


def test_every_method_is_known_by_its_name() -> None:
    assert len(METHODS) == 22
    for name, method in METHODS.items():
        assert method.name == name
        assert method.description
        assert "\n" not in method.description
        assert get_method(name) == method


@pytest.mark.usefixtures("own_registry")
def test_registering() -> None:
    own = Method("own", "Mine.", METHODS["lora"].initialise)
    register(own)
    assert get_method("own") == own
    assert get_method("own+frozen-a").description.startswith("Mine.")
    with pytest.raises(ValueError, match="'own' already"):
        register(own)
    with pytest.raises(ValueError, match="separates modifiers"):
        register(Method("own+mine", "Mine.", own.initialise))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lora-xy", "no method 'lora-xy'; there are lora, .*full"),
        ("", "no method ''"),
        ("lora+frozen-b", "no modifier 'frozen-b'; there are frozen-a, rslora, no-rslora"),
        ("lora+", "no modifier ''"),
        ("lora+rslora+no-rslora", "contradict"),
        ("lora+frozen-a+frozen-a", "repeat"),
        ("full+frozen-a", "no adapter"),
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


@pytest.mark.parametrize("name", ["lora", "milora", "lora-da-paper", "corda", "lora-ga-peft"])
def test_rslora_is_changed_for_one_method_alone(name: str) -> None:
    if name == "corda":
        pytest.importorskip("attr")
    setup = setup_of(use_rslora=True)
    before = logits_of(setup.model, setup)
    changed = initialised(f"{name}+no-rslora", setup)
    assert {layer.s for layer in layers_in(changed).values()} == {8 / 4}
    assert setup.lora.use_rslora is True
    back = initialised(f"{name}+rslora", setup_of(use_rslora=False))
    assert {layer.s for layer in layers_in(back).values()} == {8 / 4**0.5}
    if name not in ("lora", "lora-da-paper"):  # the method knew of the scaling when it took its part off the base
        torch.testing.assert_close(logits_of(changed, setup), before, rtol=0, atol=1e-4)


def test_modifiers_say_what_they_do() -> None:
    method = get_method("lora-da+frozen-a+no-rslora")
    assert method.name == "lora-da+frozen-a+no-rslora"
    assert method.uses_data
    assert method.description.startswith(METHODS["lora-da"].description)
    assert "A is not trained" in method.description
    assert "alpha/r" in method.description
    model = initialised(method.name, setup_of())
    assert {layer.s for layer in layers_in(model).values()} == {2.0}
    assert not any(p.requires_grad for n, p in model.named_parameters() if "lora_A" in n)

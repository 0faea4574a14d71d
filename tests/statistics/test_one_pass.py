"""One pass over the data, compared with loops over single unpadded examples in float64."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import BatchEncoding

from lora_da import CollectionConfig, Statistics, collect_statistics
from models import (
    PADDING,
    VOCABULARY,
    Example,
    batches_of,
    causal_examples,
    classified_examples,
    collate,
    image_examples,
    positionwise,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    tiny_llama_with_dropout,
    tiny_opt,
    tiny_t5,
    tiny_vit,
    translated_examples,
    with_lora,
)
from reference import assert_sums_agree, distance, reference_sums

FULL = CollectionConfig(output_factor="full")
CASES: dict[str, tuple[Callable[..., Any], Callable[[int], list[Example]], str]] = {
    "llama": (tiny_llama, causal_examples, "causal"),
    "gpt2": (tiny_gpt2, causal_examples, "causal"),
    "opt": (tiny_opt, causal_examples, "causal"),
    "bert": (tiny_bert, classified_examples, "example"),
    "t5": (tiny_t5, translated_examples, "translation"),
    "vit": (tiny_vit, image_examples, "example"),
    "positionwise": (positionwise, causal_examples, "causal"),
}


def _collect(model: nn.Module, batches: Any, config: CollectionConfig = FULL, **options: Any) -> Statistics:
    return collect_statistics(model, batches, config, progress=False, **options)


def _assert_same(found: Statistics, wanted: Statistics, tolerance: float = 1e-5, same_groups: bool = True) -> None:
    assert found.tokens == wanted.tokens
    assert found.examples == wanted.examples
    if same_groups:
        assert found.input_groups == wanted.input_groups
    assert found.loss_sum == pytest.approx(wanted.loss_sum, rel=max(tolerance, 1e-12))
    assert_sums_agree(found, wanted, tolerance)


def _state(model: nn.Module) -> Any:
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad is None for parameter in model.parameters()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        [(getattr(m, "active_adapters", None), getattr(m, "disable_adapters", None)) for m in model.modules()],
        [(name, value) for m in model.modules() for name, value in vars(m).items() if isinstance(value, float)],
    )


def _random_state() -> tuple[Any, ...]:
    return random.getstate(), repr(np.random.get_state(legacy=False)), torch.get_rng_state().tolist()


# The sums


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", CASES)
def test_sums_are_those_of_single_examples(name: str, reduction: Any) -> None:
    make, data, task = CASES[name]
    model, examples = make(), data(8)
    config = CollectionConfig(output_factor="full", loss_reduction=reduction)
    found = _collect(model, batches_of(examples, 3), config)
    wanted = reference_sums(model, examples, found.layers, task, reduction=reduction)
    assert found.examples == 8
    assert found.loss_sum == pytest.approx(wanted.loss, rel=1e-5)
    assert found.tokens == wanted.tokens
    for layer in found.layers:
        assert distance(found[layer].gradient_sum, wanted.weight_gradients[layer]) <= 1e-5
        assert distance(found[layer].gradient_sum, wanted.gradients[layer]) <= 1e-5
        assert distance(found[layer].input_sum, wanted.inputs[layer]) <= 1e-5
        assert distance(found[layer].output_sum, wanted.outputs[layer]) <= 1e-5


def test_cross_attention_keys_count_the_encoders_tokens() -> None:
    examples = translated_examples(4)
    batch = collate(examples)
    assert batch["input_ids"].shape == batch["labels"].shape  # lengths alone don't tell the two sides apart
    found = _collect(tiny_t5(), [batch])
    source = sum(len(example["input_ids"]) for example in examples)
    target = sum(len(example["labels"]) for example in examples)
    assert source != target
    for name, tokens in found.tokens.items():
        of_encoder = name.startswith("encoder.") or name.endswith(("EncDecAttention.k", "EncDecAttention.v"))
        assert tokens == (source if of_encoder else target), name


# Batches, padding, checkpointing, precision


@pytest.mark.parametrize("name", [name for name in CASES if name != "positionwise"])
@pytest.mark.parametrize("checkpointing", ["off", "reentrant", "not reentrant"])
def test_batch_size_and_checkpointing_do_not_matter(name: str, checkpointing: str) -> None:
    make, data, _ = CASES[name]
    examples = data(8)
    wanted = _collect(make(), batches_of(examples, 3))
    for size in (1, 3, 8):
        model = make().train()
        if checkpointing != "off":
            model.gradient_checkpointing_enable({"use_reentrant": checkpointing == "reentrant"})
        # Reentrant checkpointing gives every block of a decoder its own copy of the encoder's output.
        own_copies = (name, checkpointing) == ("t5", "reentrant")
        _assert_same(_collect(model, batches_of(examples, size)), wanted, same_groups=not own_copies)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "positionwise"])
def test_the_side_of_the_padding_and_what_stands_in_it_do_not_matter(name: str) -> None:
    make, data, _ = CASES[name]
    wanted = _collect(make(), batches_of(data(8), 3))
    for side, padding in (("left", PADDING), ("right", 11), ("left", 11)):
        _assert_same(_collect(make(), batches_of(data(8), 3, side, padding)), wanted)


@pytest.mark.parametrize("side", ["right", "left"])
def test_nan_in_the_padding_does_not_matter(side: str) -> None:
    examples, model = causal_examples(8), positionwise()
    with torch.no_grad():
        model.embedding.weight[VOCABULARY - 1] = torch.nan
    examples = [{k: v.where(v != VOCABULARY - 1, 4) for k, v in example.items()} for example in examples]
    wanted = _collect(positionwise(), batches_of(examples, 1))
    batches = batches_of(examples, 4, side, padding=VOCABULARY - 1)
    assert bool(torch.isnan(model(batches[0]["input_ids"]).logits).any())
    found = _collect(model, batches)
    assert_sums_agree(found, wanted, 1e-5)


def test_reduced_precision_stays_close() -> None:
    examples = causal_examples(16)
    wanted = _collect(tiny_llama(), batches_of(examples))
    for dtype, tolerance in ((torch.bfloat16, 0.15), (torch.float16, 0.02)):
        found = _collect(tiny_llama().to(dtype), batches_of(examples))
        assert found.loss_sum == pytest.approx(wanted.loss_sum, rel=tolerance)
        assert {
            part.dtype for name in found.layers for part in vars(found[name]).values() if isinstance(part, Tensor)
        } == {torch.float32}
        assert_sums_agree(found, wanted, tolerance)


def test_small_gradients_survive_float16() -> None:
    """Without a loss scale these are below what float16 can hold."""
    examples, config = causal_examples(8), CollectionConfig(loss_reduction="mean")

    def loss(output: Any, batch: Any) -> Any:
        return 2e-6 * output.logits.float().square().sum((1, 2))

    wanted = _collect(positionwise(), batches_of(examples, 1), config, example_loss=loss)
    found = _collect(positionwise().half(), batches_of(examples, 1), config, example_loss=loss)
    for name in wanted.layers:
        assert distance(found[name].gradient_sum, wanted[name].gradient_sum) <= 0.02


def test_float64_models_are_summed_in_float64() -> None:
    model, examples = tiny_llama().double(), causal_examples(6)
    found = _collect(model, batches_of(examples), FULL)
    wanted = reference_sums(model, examples, found.layers, "causal")
    for name in found.layers:
        assert found[name].gradient_sum.dtype == torch.float64
        assert distance(found[name].gradient_sum, wanted.weight_gradients[name]) <= 1e-12
        assert distance(found[name].input_sum, wanted.inputs[name]) <= 1e-12
        assert distance(found[name].output_sum, wanted.outputs[name]) <= 1e-12


# Shared inputs and which layers are reached


# Dropout and adapters


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "make", [tiny_llama_with_dropout, tiny_opt, lambda: tiny_gpt2(dropout=0.5)], ids=["llama", "opt", "gpt2"]
)
def test_dropout_is_off(make: Callable[[], Any], checkpointing: bool) -> None:
    examples = causal_examples(6)
    wanted = _collect(make(), batches_of(examples))
    model = make().train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": True})
    tokens = batches_of(examples)[0]["input_ids"]
    draws = [model(tokens).logits for _ in range(6)]
    assert not all(torch.equal(draws[0], draw) for draw in draws[1:])  # dropout would act
    _assert_same(_collect(model, batches_of(examples)), wanted)


def test_adapters_do_not_matter() -> None:
    batches = batches_of(causal_examples(6))
    wanted = _collect(tiny_llama(), batches)
    model: Any = with_lora(tiny_llama(), trained=True, lora_dropout=0.3)
    _assert_same(_collect(model, batches), wanted, 0.0)
    model.add_adapter("second", model.peft_config["default"])
    model.base_model.set_adapter(["default", "second"])
    _assert_same(_collect(model, batches, adapter_name="second"), wanted, 0.0)
    assert model.base_model.model.model.layers[0].mlp.up_proj.active_adapters == ["default", "second"]
    compiled: Any = torch.compile(model, backend="eager")
    _assert_same(_collect(compiled, batches), wanted, 0.0)


def test_modules_to_save_are_disabled_as_well() -> None:
    batches = batches_of(classified_examples(6))
    targets = ["query", "value"]
    wanted = _collect(with_lora(tiny_bert(), target_modules=targets), batches)
    model: Any = with_lora(tiny_bert(), target_modules=targets, modules_to_save=["classifier"])
    with torch.no_grad():
        for parameter in model.base_model.model.classifier.modules_to_save.parameters():
            parameter.add_(1.0)
    before = _state(model)
    _assert_same(_collect(model, batches), wanted, 0.0)
    assert _state(model) == before


# What is put back


def _interrupted(examples: list[Example], error: type[BaseException]) -> Iterator[Example]:
    yield collate(examples[:2])
    random.random(), np.random.rand(), torch.rand(())
    raise error("in the middle")


@pytest.mark.parametrize("error", [None, OSError, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("disabled", [False, True])
def test_everything_is_put_back(error: type[BaseException] | None, disabled: bool) -> None:
    model: Any = with_lora(tiny_opt(), target_modules=["q_proj", "fc1"], trained=True).train()
    model.add_adapter("second", model.peft_config["default"])
    model.set_adapter("second")
    model.gradient_checkpointing_enable({"use_reentrant": True})
    for index, module in enumerate(model.modules()):
        module.training = index % 4 != 1
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 == 0)
    if disabled:
        model.base_model.disable_adapter_layers()
    before, random_before = _state(model), _random_state()
    weights = [parameter.clone() for parameter in model.parameters()]
    examples = causal_examples(4)
    if error is None:
        _collect(model, batches_of(examples, 2))
    else:
        with pytest.raises(error, match="in the middle"):
            _collect(model, _interrupted(examples, error))
        if error is not KeyboardInterrupt:
            with pytest.raises(ValueError, match="no label token"):
                _collect(model, [collate(examples), collate([_without_labels(examples[0])])])
    assert _state(model) == before
    assert _random_state() == random_before
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))


@pytest.mark.parametrize("own_generator", [True, False])
def test_training_sees_the_order_that_it_would_have_seen(own_generator: bool) -> None:
    examples = causal_examples(12)

    def loader() -> DataLoader[Any]:
        torch.manual_seed(4)
        generator = torch.Generator().manual_seed(3) if own_generator else None
        data: Any = examples
        return DataLoader(data, batch_size=3, shuffle=True, collate_fn=collate, generator=generator)

    def order(batches: Any) -> list[list[int]]:
        return [batch["input_ids"].flatten().tolist() for batch in batches]

    wanted = order(loader())
    used = loader()
    _collect(tiny_llama(), used, max_examples=5)
    assert order(used) == wanted


# Loaders


def test_any_iterable_of_mappings_is_read_and_the_last_batch_cut() -> None:
    examples: Any = causal_examples(8)
    wanted = _collect(tiny_llama(), batches_of(examples[:5], 1))
    assert wanted.population_size is None
    found = _collect(tiny_llama(), (BatchEncoding(batch) for batch in batches_of(examples, 3)), max_examples=5)
    _assert_same(found, wanted)
    found = _collect(tiny_llama(), DataLoader(examples, batch_size=3, collate_fn=collate), max_examples=5)
    _assert_same(found, wanted)
    assert (found.examples, found.population_size) == (5, 8)


def test_an_example_loss_of_ones_own() -> None:
    examples = causal_examples(6)

    def loss(output: Any, batch: Any) -> Any:
        log_probabilities = torch.log_softmax(output.logits, -1)[:, :-1]
        labels = batch["labels"][:, 1:]
        picked = log_probabilities.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
        return -(picked * (labels != -100)).sum(1)

    model = tiny_llama()
    wanted = _collect(model, batches_of(examples, 3))
    _assert_same(_collect(model, batches_of(examples, 3), example_loss=loss), wanted)
    assert not wanted.batch_dependent
    loss.batch_dependent = True  # type: ignore[attr-defined]
    assert _collect(model, batches_of(examples, 3), example_loss=loss).batch_dependent
    with pytest.raises(ValueError, match=r"example_loss must return one loss an example, \(B,\), not \(\)"):
        _collect(model, batches_of(examples), example_loss=lambda output, batch: loss(output, batch).sum())


@pytest.mark.filterwarnings("ignore:.*all rows of their inputs are counted")  # nothing tells its padding
def test_a_decoder_with_a_loss_of_its_own_needs_no_labels() -> None:
    batch = collate(translated_examples(3))
    batch["decoder_input_ids"] = batch.pop("labels").clamp(min=0)
    found = _collect(tiny_t5(), [batch], example_loss=lambda output, _: output.logits.square().mean((1, 2)))
    assert found.tokens["decoder.block.0.layer.0.SelfAttention.q"] == batch["decoder_input_ids"].numel()


def test_batch_statistics_make_losses_depend_on_the_batch() -> None:
    class Normalised(nn.Module):
        loss_type = "ForSequenceClassification"

        def __init__(self, track: bool) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=track)

        def forward(self, x: Tensor) -> Any:
            return SimpleNamespace(logits=self.norm(self.linear(x)))

    batch = {"x": torch.randn(5, 3), "labels": torch.randint(3, (5,))}
    assert _collect(Normalised(track=False), [batch]).batch_dependent
    assert not _collect(Normalised(track=True), [batch]).batch_dependent


# Errors


def _without_labels(example: Example) -> Example:
    return example | {"labels": torch.full_like(example["labels"], -100)}


@pytest.mark.parametrize(("labels", "reason"), [(-100, r"no label token in example\(s\) \[1\]"), (None, "no labels")])
def test_batches_that_can_not_be_used(labels: int | None, reason: str) -> None:
    first, *others = causal_examples(4)
    bad = collate([first, _without_labels(others[0])]) if labels else {"input_ids": first["input_ids"][None]}
    model = with_lora(tiny_llama()).train()
    before = _state(model)
    with pytest.raises(ValueError, match=rf"in the batch that starts at example 2: .*{reason}"):
        _collect(model, [collate(others[1:]), bad])
    assert _state(model) == before
    with pytest.raises(ValueError, match="the data loader gave no batch"):
        _collect(model, [])


def test_losses_and_sums_that_are_not_finite() -> None:
    model, batches = tiny_llama(), batches_of(causal_examples(3))
    with torch.no_grad():
        model.lm_head.weight[5] = torch.nan
    with pytest.raises(ValueError, match=r"the loss of example\(s\) \[0, 1, 2\] is not finite"):
        _collect(model, batches)
    overflowing = positionwise()
    with torch.no_grad():
        overflowing.embedding.weight.mul_(1e30)
    with pytest.raises(ValueError, match=r"the sums of \d layers are not finite, first the input of head"):
        _collect(overflowing, batches)


def test_a_loss_that_depends_on_no_layer() -> None:
    with pytest.raises(ValueError, match="the loss does not depend on any of the layers"):
        _collect(
            tiny_llama(),
            batches_of(causal_examples(2)),
            example_loss=lambda output, batch: torch.zeros(2).requires_grad_(True) + 0,
        )


def test_autocast_does_not_reach_the_sums() -> None:
    """A caller's autocast lowers the activations' precision, not that of the products."""
    model = tiny_llama()
    layer = model.model.layers[0].self_attn.q_proj
    seen: list[torch.Tensor] = []

    def keep(_module: nn.Module, args: Any, _output: Any) -> None:
        if torch.is_grad_enabled():  # and not while the model's loss is found out
            seen.append(args[0].flatten(0, -2).double())

    handle = layer.register_forward_hook(keep)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = collect_statistics(model, batches_of(causal_examples(4), 1), progress=False)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)
        handle.remove()
    a = torch.cat(seen)
    total = found["model.layers.0.self_attn.q_proj"].input_sum
    assert total.dtype == torch.float32
    torch.testing.assert_close(total.double(), a.T @ a, rtol=1e-5, atol=1e-5)

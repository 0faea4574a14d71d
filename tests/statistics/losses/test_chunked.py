"""The loss by parts, against the whole model's own logits and autograd's gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import transformers
from torch import Tensor

import lora_da.statistics.losses.chunked as module
from lora_da import collect_statistics
from lora_da.adapter.layers import find_linear_layers
from lora_da.statistics.losses.chunked import HiddenStates, compute_chunked_losses, has_separate_head
from lora_da.statistics.losses.language_models import CausalLM
from lora_da.system.memory import peak_memory, reset_peak_memory
from models import (
    VOCABULARY,
    batches_of,
    causal_examples,
    collate,
    positionwise,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    tiny_opt,
    tiny_t5,
    with_lora,
)
from reference import distance, reference_sums


def _tiny(name: str, **settings: Any) -> Any:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.3, "pad_token_id": 0}
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes, **heads, **settings)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def tiny_gemma2() -> Any:
    """Its head squeezes the logits."""
    return _tiny("Gemma2", head_dim=8, sliding_window=4, final_logit_softcapping=0.5)


def tiny_cohere() -> Any:
    """Its head scales the logits."""
    return _tiny("Cohere", logit_scale=3.0)


def hidden_states(model: Any, inputs: dict[str, Any]) -> HiddenStates:
    hidden = HiddenStates.of(model, inputs, {})
    assert hidden is not None
    return hidden


SERVED = [tiny_llama, tiny_gpt2, tiny_opt, tiny_gemma2, tiny_cohere]


def whole(model: Any, batch: dict[str, Tensor], reduction: Literal["sum", "mean"]) -> tuple[Tensor, Tensor]:
    """The losses, and the gradient at the last hidden states."""
    states: list[Tensor] = []
    handle = model.get_decoder().register_forward_hook(lambda _m, _a, output: states.append(output[0]))
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    handle.remove()
    losses = CausalLM(reduction)(output, batch)
    return losses.detach(), torch.autograd.grad(losses.sum(), states[0])[0]


@pytest.mark.parametrize("entries", [1, 3 * VOCABULARY, 2**25])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("make", SERVED)
def test_losses_and_gradients_are_those_of_the_whole(
    make: Callable[[], Any], reduction: Literal["sum", "mean"], entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ENTRIES", entries)
    model, batch = make(), collate(causal_examples(4))
    assert has_separate_head(model, find_linear_layers(model))
    wanted_losses, wanted_gradient = whole(model, batch, reduction)
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
    losses, gradient = compute_chunked_losses(
        hidden_states(model, inputs), batch["labels"], CausalLM(reduction), scale=4.0
    )
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-5, atol=1e-6)
    assert gradient is not None
    assert distance(gradient, 4.0 * wanted_gradient) < 1e-5
    with torch.no_grad():
        losses, gradient = compute_chunked_losses(hidden_states(model, inputs), batch["labels"], CausalLM(reduction))
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-5, atol=1e-6)
    assert gradient is None


@pytest.mark.parametrize("make", [tiny_bert, tiny_t5, positionwise])
def test_other_models_are_not_served(make: Callable[[], Any]) -> None:
    assert not has_separate_head(make(), {})


def tiny_roberta() -> Any:
    """A causal language model whose head is a module of several layers."""
    return _tiny("Roberta", is_decoder=True)


@pytest.mark.parametrize("make", [tiny_llama, tiny_roberta])
def test_the_head_sees_every_position_where_it_is_served(make: Callable[[], Any]) -> None:
    """Its layers' sums run over all tokens, padding left out, and not only over those that predict a label."""
    model, examples = make(), causal_examples(4)
    names = ["lm_head" if make is tiny_llama else "lm_head.dense"]
    adapted = with_lora(make(), target_modules=names)
    found = collect_statistics(adapted, [collate(examples)], progress=False)
    wanted = reference_sums(model, examples, names, "causal")
    assert found.layers == names
    assert found.tokens == wanted.tokens
    assert distance(found.gradient_sums[names[0]], wanted.weight_gradients[names[0]]) < 1e-5
    assert distance(found[names[0]].input_sum, wanted.inputs[names[0]]) < 1e-5


def test_a_head_that_is_adapted_itself_is_not_taken_apart() -> None:
    model = tiny_llama()
    assert has_separate_head(model, {})
    assert not has_separate_head(model, {"lm_head": model.lm_head})
    adapted: Any = with_lora(model, target_modules=["lm_head"])
    assert not has_separate_head(model, {"lm_head": adapted.base_model.model.lm_head.base_layer})


def test_no_more_logits_are_made_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny_llama(), collate(causal_examples(6))
    made: list[int] = []
    hidden = hidden_states(model, {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]})
    model.lm_head.register_forward_hook(lambda _m, _a, output: made.append(output.numel()))
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 4 * VOCABULARY)
    compute_chunked_losses(hidden, batch["labels"], CausalLM())
    assert max(made) == 4 * VOCABULARY
    assert len(made) > 1


def test_a_model_that_calls_its_decoder_twice_is_run_as_a_whole() -> None:
    wanted = collect_statistics(tiny_llama(), batches_of(causal_examples(4)), progress=False)
    model = tiny_llama()
    forward = model.forward

    def twice(*arguments: Any, logits_to_keep: Any = 0, **options: Any) -> Any:
        with torch.no_grad():
            model.get_decoder()(options["input_ids"])
        return forward(*arguments, logits_to_keep=logits_to_keep, **options)

    model.forward = twice
    assert HiddenStates.of(model, {"input_ids": torch.ones(1, 3, dtype=torch.long)}, {}) is None
    found = collect_statistics(model, batches_of(causal_examples(4)), progress=False)
    assert found.loss_sum == pytest.approx(wanted.loss_sum)
    assert max(distance(found.gradient_sums[name], value) for name, value in wanted.gradient_sums.items()) < 1e-5


@pytest.mark.slow
def test_long_sequences_and_large_vocabularies_fit() -> None:
    """The logits of this batch would take 8 GiB in float32, and as much again for each copy."""
    cpu = torch.device("cpu")
    model = tiny_llama(vocab_size=262144, num_hidden_layers=1, max_position_embeddings=8192)
    ids = torch.randint(3, 262144, (1, 8192), generator=torch.Generator().manual_seed(0))
    reset_peak_memory(cpu)
    before = peak_memory(cpu)
    if before is None:
        pytest.skip("this system can't tell a process's peak memory")
    statistics = collect_statistics(model, [{"input_ids": ids, "labels": ids}], progress=False)
    after = peak_memory(cpu)
    assert after is not None
    assert after - before < 2 * 2**30
    assert statistics.tokens["model.layers.0.mlp.up_proj"] == 8192

"""Packed batches give the sums of the same examples unpacked, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from lora_da import CollectionConfig, Statistics, collect_statistics, initialize_lora_da_weights
from lora_da.statistics.batches.separation import SeparationCheck
from models import (
    VOCABULARY,
    batches_of,
    causal_examples,
    classified_examples,
    collate,
    packed,
    positionwise,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    tiny_opt,
    tiny_t5,
    with_lora,
)
from reference import assert_sums_agree, distance, reference_sums

EXAMPLES = causal_examples(8)
PACKS = [packed([EXAMPLES[:4]]), packed([EXAMPLES[4:6], EXAMPLES[6:]], mask_labels=False)]


def _tiny(config: Any, make: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "initializer_range": 0.3}
    return make(config(**sizes, **settings)).eval()


def _with_sliding_window() -> Any:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24}
    return _tiny(transformers.MistralConfig, transformers.MistralForCausalLM, sliding_window=3, **heads)


def _with_states() -> Any:
    return _tiny(transformers.MambaConfig, transformers.MambaForCausalLM, state_size=4)


def _with_masks() -> Any:
    sizes = {"num_attention_heads": 4, "intermediate_size": 24}
    return _tiny(transformers.BertConfig, transformers.BertForMaskedLM, **sizes)


def _collect(model: nn.Module, batches: Any, reduction: Any = "sum", **options: Any) -> Statistics:
    config = CollectionConfig(output_factor="full", loss_reduction=reduction)
    return collect_statistics(model, batches, config, progress=False, **options)


SEPARATE: dict[str, Callable[[], Any]] = {
    "sdpa": tiny_llama,
    "eager": lambda: tiny_llama(attn_implementation="eager"),
    "learned positions": tiny_gpt2,
    "sliding window": _with_sliding_window,
    "no attention": positionwise,
    "adapted head": lambda: with_lora(tiny_llama(), target_modules=["lm_head", "q_proj"]),
}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", SEPARATE)
def test_sums_are_those_of_the_unpacked_examples(name: str, reduction: Any) -> None:
    model = SEPARATE[name]()
    for most in (8, 5, 2):
        found = _collect(model, PACKS, reduction, max_examples=most)
        wanted = _collect(model, batches_of(EXAMPLES[:most], 3), reduction)
        assert (found.examples, found.tokens) == (most, wanted.tokens)
        assert found.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-5)
        assert_sums_agree(found, wanted, 1e-5)
    if name in ("sdpa", "learned positions"):
        reference = reference_sums(model, EXAMPLES[:2], found.layers, "causal", reduction=reduction)
        assert found.tokens == reference.tokens
        for layer in found.layers:
            assert distance(found[layer].gradient_sum, reference.weight_gradients[layer]) <= 1e-5
            assert distance(found[layer].input_sum, reference.inputs[layer]) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [0.3, 0.02])
def test_models_that_let_examples_see_each_other_are_refused(dtype: torch.dtype, spread: float) -> None:
    for make, reason in (
        (_with_states, "MambaForCausalLM lets packed examples see each other: it takes no position_ids"),
        (_with_masks, r"BertForMaskedLM lets packed.*: its attention \(sdpa\) or another layer does not look"),
        (lambda: tiny_opt(dropout=0.0), r"OPTForCausalLM lets packed examples see each other: its attention"),
    ):
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(spread / 0.3)
        with pytest.raises(ValueError, match=reason + ".*unpack the examples"):
            _collect(model.to(dtype), PACKS)


def test_batches_that_keep_a_model_from_telling_examples_apart_are_refused() -> None:
    mask = torch.ones_like(PACKS[0]["input_ids"])
    lengths = {"seq_lengths": [[len(example["input_ids"]) for example in EXAMPLES[:4]]]}
    for batch, reason in (
        (PACKS[0] | {"attention_mask": mask}, "beside an attention_mask transformers ignores.*leave it out"),
        (PACKS[0] | lengths | {"position_ids": None}, "the batch has no position_ids that start again"),
    ):
        with pytest.raises(
            ValueError, match=rf"LlamaForCausalLM lets packed examples see each other: {reason}.*unpack"
        ):
            _collect(tiny_llama(), [batch])
    model = with_lora(tiny_llama())
    statistics = _collect(model, batches_of(EXAMPLES))
    with pytest.warns(UserWarning, match="lets packed examples see each other"):  # only the loss is measured
        initialize_lora_da_weights(model, [PACKS[0] | {"attention_mask": mask}], statistics=statistics, progress=False)


def test_an_example_is_read_as_if_it_were_alone() -> None:
    class Absolute(nn.Module):
        """Its tokens don't see each other, but their places in the row."""

        loss_type = "ForCausalLM"

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.places = positionwise(), nn.Embedding(64, VOCABULARY)

        def forward(self, input_ids: Tensor) -> Any:
            output = self.inner(input_ids)
            output.logits = output.logits + self.places.weight[: input_ids.shape[1]]
            return output

    with pytest.raises(ValueError, match=r"Absolute reads an example behind others differently than alone.*unpack"):
        _collect(Absolute(), PACKS)


def test_models_whose_labels_can_not_be_packed() -> None:
    for model, message in (
        (tiny_bert(), "BertForSequenceClassification has no output for each token.*unpack"),
        (tiny_t5(), "T5ForConditionalGeneration has an encoder and a decoder.*unpack"),
    ):
        with pytest.raises(ValueError, match=message):
            _collect(model, PACKS)
    assert _collect(tiny_bert(), [collate(classified_examples(3))]).examples == 3


@pytest.mark.parametrize("name", ["sdpa", "adapted head"])
def test_packed_examples_without_a_label_count_with_no_loss(name: str) -> None:
    """As TRL packs prompts that fill the whole length."""
    empty = EXAMPLES[1] | {"labels": torch.full_like(EXAMPLES[1]["labels"], -100)}
    model, others = SEPARATE[name](), [EXAMPLES[0], EXAMPLES[2]]
    wanted = _collect(model, batches_of(others, 2))
    with pytest.warns(UserWarning, match="without any label token, such as prompts"):
        found = _collect(model, [packed([[EXAMPLES[0], empty, EXAMPLES[2]]]), packed([[empty, empty]])])
    assert found.examples == 5
    assert found.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-5)
    for layer in wanted.layers:
        assert distance(found[layer].gradient_sum, wanted[layer].gradient_sum) <= 1e-5


def test_a_loss_of_ones_own_is_one_an_example() -> None:
    def by_row(output: Any, _batch: Any) -> Tensor:
        return output.logits.square().sum((1, 2))  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match=r"returned 1 losses of a packed batch of 4 examples.*unpack"):
        _collect(tiny_llama(), PACKS, example_loss=by_row)


def test_the_probe_runs_once_for_each_kind_of_batch() -> None:
    model, calls = tiny_llama(), list[tuple[int, ...]]()
    model.register_forward_pre_hook(lambda _m, _a, kwargs: calls.append(kwargs["input_ids"].shape), with_kwargs=True)
    check = SeparationCheck(model, model, torch.device("cpu"))
    for batch in [*PACKS, *PACKS, collate(EXAMPLES)]:
        check.check(batch)
    assert [shape[0] for shape in calls] == [1, 1, 1, 2, 2, 2]
    assert max(shape[1] for shape in calls) <= 32

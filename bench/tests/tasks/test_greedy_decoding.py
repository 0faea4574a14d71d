"""Greedy generation, grading of answers meant to fool it, and the held-out loss against a plain loop."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_da_bench.running.evaluation import (
    match_numbers,
    extract_answer,
    generate,
    held_out_loss,
    item_losses,
    read_prediction,
    read_reference,
)
from models import (
    batches_of,
    causal_examples,
    classified_examples,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    with_lora,
)

PROMPTS = ["Once upon a time", "Lily", "The little dog was very happy because he", "One day, Tom and his mom went"]


@pytest.fixture(scope="module")
def tiny_folder() -> Path:
    root = os.environ.get("LORA_DA_DATA")
    if root is None:
        pytest.skip("LORA_DA_DATA is not set: no tiny model to load")
    folder = Path(root).parent / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("there is no models/stories260K beside $LORA_DA_DATA")
    return folder


@pytest.fixture
def tiny(tiny_folder: Path) -> Iterator[tuple[Any, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for one another cost far more than this small model
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    yield model, AutoTokenizer.from_pretrained(tiny_folder)
    torch.set_num_threads(threads)


def _continue_alone(model: Any, tokenizer: Any, prompt: str, steps: int) -> str:
    """Greedy continuation by the definition: no cache, no padding, one token at a time."""
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(steps):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_generate_equals_plain_greedy_at_every_batch_size(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    expected = [_continue_alone(model, tokenizer, prompt, 12) for prompt in PROMPTS]
    assert all(expected)
    for batch_size in (1, 3, 4):
        assert generate(model, tokenizer, PROMPTS, max_new_tokens=12, batch_size=batch_size) == expected


def test_generate_overrules_the_models_configuration(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    expected = generate(model, tokenizer, PROMPTS[:2], max_new_tokens=12, batch_size=2)
    model.generation_config.update(do_sample=True, temperature=1.7, top_p=0.5, top_k=3, repetition_penalty=3.0)
    model.generation_config.no_repeat_ngram_size = 1
    assert generate(model, tokenizer, PROMPTS[:2], max_new_tokens=12, batch_size=2) == expected


def test_generate_with_an_adapter(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    expected = generate(model, tokenizer, PROMPTS[:2], max_new_tokens=6, batch_size=2)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], lora_dropout=0.5))
    assert generate(adapted, tokenizer, PROMPTS[:2], max_new_tokens=6, batch_size=2) == expected
    assert adapted.training


def test_generate_stops_at_the_end_token(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    whole = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=12, batch_size=1)[0]
    start = len(tokenizer(PROMPTS[0])["input_ids"])
    comma = next(
        token for token in tokenizer(PROMPTS[0] + whole)["input_ids"][start:] if tokenizer.decode([token]) == ","
    )
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, comma]
    texts = generate(model, tokenizer, PROMPTS[:2], max_new_tokens=12, batch_size=2)
    assert texts[0] == whole.split(",")[0]
    assert len(texts[1]) > 0


def test_generate_needs_no_padding_token_and_changes_nothing(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=6, batch_size=4)
    tokenizer.pad_token = None
    model.train()
    model.model.layers[0].eval()
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=6, batch_size=4) == expected
    assert tokenizer.pad_token is None
    assert model.training
    assert not model.model.layers[0].training
    assert model.model.layers[1].training
    assert generate(model, tokenizer, [], max_new_tokens=6, batch_size=4) == []
    with pytest.raises(ValueError, match="both must be positive"):
        generate(model, tokenizer, PROMPTS, max_new_tokens=0, batch_size=4)


def test_extract_answer() -> None:
    assert extract_answer("3 + 4 = 7\n#### 7") == "7"
    assert extract_answer("#### 1\nno, #### 1,234 pens \nQuestion: ...") == "1,234 pens"
    assert extract_answer("the answer is 7") is None
    assert extract_answer("####") == ""


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("#### 5", "5 pens\n#### 5"),
        ("####5", "#### 5"),
        ("#### 1,234,567", "#### 1234567"),
        ("#### 1234567", "#### 1,234,567"),
        ("#### $12", "#### 12"),
        ("#### -$12", "#### -12"),
        ("#### 12 dollars", "#### 12"),
        ("#### 12.", "#### 12"),
        ("#### **12**", "#### 12"),
        ("#### 12.00", "#### 12"),
        ("#### 1/2", "#### 0.5"),
        ("#### 0.5", "#### 1/2"),
        ("#### 012", "#### 12"),
        ("#### 75%", "#### 75"),
        ("#### 12\n\nQuestion: more?\nAnswer: ...\n#### 99", "#### 12"),
    ],
)
def test_right_answers(prediction: str, reference: str) -> None:
    assert match_numbers(prediction, reference)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("#### 5", "#### 500"),
        ("#### 500", "#### 5"),
        ("#### 1", "#### 1,234,567"),
        ("#### 1,234", "#### 1,234,567"),
        ("#### 567", "#### 1,234,567"),
        ("#### 1,23", "#### 123"),
        ("#### 5", "#### -5"),
        ("#### -5", "#### 5"),
        ("#### 5", "#### 0.5"),
        ("#### .5", "#### 5"),
        ("#### 1", "#### 1/2"),
        ("#### 2", "#### 1/2"),
        ("#### 5 or 500", "#### 500"),
        ("#### 5 or 500", "#### 5"),
        ("#### 12 * 2 = 24", "#### 24"),
        ("#### 12 * 2 = 24", "#### 12"),
        ("#### 12 thousand", "#### 12"),
        ("#### 12bn", "#### 12"),
        ("#### 12 mln", "#### 12"),
        ("#### 12 lakh", "#### 12"),
        ("#### 12 or thirteen", "#### 12"),
        ("#### 12k", "#### 12"),
        ("#### 12 and a half", "#### 12"),
        ("#### 1e3", "#### 1"),
        ("#### 5/0", "#### 5"),
        ("#### twelve", "#### 12"),
        ("#### ", "#### 12"),
        ("####\n12", "#### 12"),
        ("12", "#### 12"),
        ("The answer is 12.", "#### 12"),
        ("", "#### 12"),
        ("#### 99\n#### 12", "#### 12"),
        ("#### 1234567890123456788", "#### 1234567890123456789"),
        ("#### 9**9**9**9", "#### 9"),
        ("#### " + "9" * 5000, "#### 9"),
    ],
)
def test_wrong_answers(prediction: str, reference: str) -> None:
    assert not match_numbers(prediction, reference)


def test_reference_without_an_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="The reference has no number after ####"):
        match_numbers("#### 12", "12")


def test_the_numbers_that_are_compared() -> None:
    assert read_prediction("#### $1,234 pens\n#### 7") == "1234"
    assert read_prediction("1234") is None
    assert read_reference("#### 7\n#### -1,234") == "-1234"
    with pytest.raises(ValueError, match="no number after ####"):
        read_reference("1234")


def test_grading_works_in_any_thread() -> None:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(match_numbers("#### 1/2", "#### 0.5")))
    thread.start()
    thread.join()
    assert results == [True]


def test_held_out_loss_equals_a_plain_loop(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    rows = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    batches, total, count = [], 0.0, 0
    for pair, masked in ((rows[:2], 1), (rows[2:], 3)):
        width = max(map(len, pair))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in pair])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in pair])
        labels = torch.where(mask.bool(), ids, -100)
        labels[:, :masked] = -100
        batches.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
        for row in pair:
            with torch.no_grad():
                probabilities = model(torch.tensor([row])).logits[0].double().softmax(-1)
            for position in range(max(masked, 1), len(row)):
                total -= math.log(probabilities[position - 1, row[position]].item())
                count += 1
    model.train()
    assert held_out_loss(model, batches) == pytest.approx(total / count, rel=1e-5)
    assert model.training


def test_held_out_loss_without_labels(tiny: tuple[Any, Any]) -> None:
    ids = torch.tensor([[1, 5, 6]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([[1, -100, -100]])}
    with pytest.raises(ValueError, match="no label token"):
        held_out_loss(tiny[0], [batch])


def _alone(model: Any, example: dict[str, torch.Tensor]) -> tuple[float, int]:
    """The loss by the definition, one example at a time, in float64."""
    with torch.no_grad():
        logits = model(input_ids=example["input_ids"][None]).logits[0].double().log_softmax(-1)
    labels = example["labels"]
    if labels.ndim == 0:
        return -logits[labels].item(), 1
    places = [place for place in range(1, len(labels)) if labels[place] != -100]
    return -sum(logits[place - 1, labels[place]].item() for place in places), len(places)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize(
    ("make", "side"),
    [(tiny_llama, "right"), (tiny_llama, "left"), (tiny_gpt2, "right"), (tiny_gpt2, "left"), (tiny_bert, "right")],
)
def test_item_losses_do_not_depend_on_the_batch(make: Any, side: str, size: int) -> None:
    model = make()
    examples = classified_examples(8) if make is tiny_bert else causal_examples(8)
    expected = [_alone(model, example) for example in examples]
    model.train()
    found = item_losses(model, batches_of(examples, size, side))
    assert model.training
    assert found.labels == [labels for _, labels in expected]
    assert found.losses == pytest.approx([loss for loss, _ in expected], rel=1e-5)
    assert found.mean == pytest.approx(sum(loss for loss, _ in expected) / sum(labels for _, labels in expected))


def test_item_losses_of_an_adapter() -> None:
    examples = causal_examples(5)
    model = with_lora(tiny_llama(), trained=True)
    expected = [_alone(model, example)[0] for example in examples]
    assert item_losses(model, batches_of(examples, 3)).losses == pytest.approx(expected, rel=1e-5)
    base = item_losses(tiny_llama(), batches_of(examples, 3)).losses
    assert base != pytest.approx(expected, rel=1e-2)
    with model.disable_adapter():
        assert item_losses(model, batches_of(examples, 3)).losses == pytest.approx(base, rel=1e-5)


def test_item_losses_of_a_learnt_prefix() -> None:
    examples = causal_examples(3)
    torch.manual_seed(0)
    model = get_peft_model(tiny_llama(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)).eval()
    expected = [_alone(model, example)[0] for example in examples]
    assert item_losses(model, batches_of(examples, 1)).losses == pytest.approx(expected, rel=1e-5)
    assert item_losses(tiny_llama(), batches_of(examples, 1)).losses != pytest.approx(expected, rel=1e-2)


def test_losses_that_are_no_numbers_are_returned() -> None:
    model = tiny_llama()
    examples = causal_examples(2)
    with torch.no_grad():
        model.lm_head.weight[5] = math.nan
    found = item_losses(model, batches_of(examples, 2))
    assert all(math.isnan(loss) for loss in found.losses)
    assert math.isnan(found.mean)
    with pytest.raises(ValueError, match="no examples"):
        _ = item_losses(model, []).mean

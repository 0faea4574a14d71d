"""What a model writes, whether its answers are right, and its loss on held-out data."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from lora_da.adapter.wrapping import find_base_model
from lora_da.statistics.batches.inputs import find_labels, prepare_inputs
from lora_da.statistics.losses.alignment import find_alignment, find_predicting_positions
from lora_da.statistics.losses.chunked import compute_forward_losses
from lora_da_bench.running.quiet import bar

__all__ = [
    "ItemLosses",
    "evaluation_mode",
    "exact_match",
    "extract_answer",
    "generate",
    "held_out_loss",
    "item_losses",
    "predicted_number",
    "reference_number",
]

_MARK = "####"
# One number at the very start of an answer: grouped, decimal, or a fraction; a currency or emphasis may precede it.
_NUMBER = re.compile(
    r"[\s*_$€£¥]*(?P<sign>[-+\u2212]?)[\s$€£¥]*(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
    r"(?P<fraction>\s*/\s*0*[1-9]\d*)?"
)
# What may follow it: words and punctuation, but no second number, no arithmetic and no word that scales the first.
_SCALES = r"hundred|thousand|million|billion|trillion|dozen|half|third|quarter|lakh|crore|(?:[kKMB]|bn|mln)\b"
_UNIT = re.compile(
    rf"(?!.*\d)(?!.*\bor\b)(?!\s*[-+/^=])(?!\s*[*×÷]\s*\w)(?!,\S)(?!.*\b(?:{_SCALES}))(?!(?:{_SCALES})).*", re.DOTALL
)


def generate(model: Any, tokenizer: Any, prompts: Sequence[str], *, max_new_tokens: int, batch_size: int) -> list[str]:
    """Continue prompts greedily, up to the end-of-sequence token.

    Sampling, beams and penalties of the model's own generation configuration are overruled.

    Args:
        model: A Hugging Face causal language model or a PEFT model around one; its modes are as before afterwards.
        tokenizer: Its tokenizer; a padding token is not needed.
        prompts: The texts to continue.
        max_new_tokens: Most tokens to write for each.
        batch_size: Prompts handled at once.

    Returns:
        The new text for each prompt, in the order of ``prompts``, without special tokens.

    Raises:
        ValueError: If a prompt has no tokens, or a size is not positive.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens} and batch_size {batch_size}; both must be positive.")
    encoded = [_prompt_ids(tokenizer, prompt, index) for index, prompt in enumerate(prompts)]
    ends = _end_tokens(model, tokenizer)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        # Each neutral value is written out, as the model's own configuration fills in whatever is left unset.
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        use_cache=True,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,  # masked before the prompt, cut off after the answer
    )
    device = next(model.parameters()).device
    # Longest first: batches need little padding, and memory runs out in the first one if at all.
    order = sorted(range(len(prompts)), key=lambda index: -len(encoded[index]))
    answers = [""] * len(prompts)
    with (
        evaluation_mode(model),
        torch.no_grad(),
        bar(total=len(prompts), desc="Generating", unit="prompt") as progress,
    ):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids, mask = _pad_left([encoded[index] for index in chosen], config.pad_token_id)
            output = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config)
            for index, new in zip(chosen, output[:, ids.shape[1] :].tolist(), strict=True):
                stop = next((place for place, token in enumerate(new) if token in ends), len(new))
                answers[index] = tokenizer.decode(new[:stop], skip_special_tokens=True)
            progress.update(len(chosen))
    return answers


def extract_answer(text: str) -> str | None:
    """The rest of the line after the last ``####``, stripped; ``None`` if there is no such mark."""
    _, mark, rest = text.rpartition(_MARK)
    return rest.split("\n", 1)[0].strip() if mark else None


def exact_match(prediction: str, reference: str) -> bool:
    """Whether a prediction gives the reference's answer, compared as numbers.

    Both give their answer as one number at the start of what follows ``####``: in the prediction after the first such
    mark, as models ramble on, in the reference after the last. A currency sign before it and a unit after it do not
    count, a percent sign included. Anything less plain ("12 or 13", "12 * 2", "12 thousand") is no answer.

    Args:
        prediction: What the model wrote.
        reference: The solution.

    Returns:
        Whether both numbers are equal, decimals to six places; ``False`` if the prediction has none.

    Raises:
        ValueError: If the reference has no such number, so that nothing could ever match it.
    """
    expected, found = reference_number(reference), predicted_number(prediction)
    return found is not None and _equal(found, expected)


def predicted_number(prediction: str) -> str | None:
    """The number that :func:`exact_match` reads in a prediction, or ``None``."""
    _, mark, rest = prediction.partition(_MARK)
    return _plain_number(rest.split("\n", 1)[0] if mark else None)


def reference_number(reference: str) -> str:
    """The number that :func:`exact_match` reads in a reference.

    Raises:
        ValueError: There is none, so that nothing could ever match it.
    """
    expected = _plain_number(extract_answer(reference))
    if expected is None:
        raise ValueError(f"The reference has no number after {_MARK} to compare with: {reference[-200:]!r}.")
    return expected


@dataclass(frozen=True)
class ItemLosses:
    """The loss of each example by itself.

    Attributes:
        losses: Its sum over the example's labels, in nats; infinite or not a number where the model's logits are.
        labels: How many labels that is: tokens, or 1 for a class.
    """

    losses: list[float]
    labels: list[int]

    @property
    def mean(self) -> float:
        """Loss per label over all examples.

        Raises:
            ValueError: There are no examples.
        """
        if not self.losses:
            raise ValueError("There are no examples to take a loss of; check the data set and its maximum length.")
        return sum(self.losses) / sum(self.labels)


def item_losses(model: Any, batches: Iterable[Mapping[str, Tensor]]) -> ItemLosses:
    """The loss of each example, which does not depend on the others of its batch.

    Args:
        model: A model that :func:`find_alignment` knows, or a PEFT model around one; its modes are as before
            afterwards.
        batches: Mappings with ``labels`` and the model's inputs, on any device.

    Raises:
        ValueError: An example has no label, or the model's kind is unknown.
    """
    base = find_base_model(model)
    alignment = find_alignment(base)
    device = next(model.parameters()).device
    # LoRA lives in the base's layers; prompts that PEFT learns are put in front by PEFT's own model.
    called = model if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False) else base
    losses: list[float] = []
    counts: list[int] = []
    with evaluation_mode(model), torch.no_grad():
        for batch in batches:
            labels = find_labels(batch).to(device)
            losses += compute_forward_losses(called, prepare_inputs(base, batch, device), labels, "sum").tolist()
            one_each = alignment == "example"
            counts += [1] * len(labels) if one_each else find_predicting_positions(labels, alignment).sum(1).tolist()
    return ItemLosses(losses, counts)


def held_out_loss(model: Any, batches: Iterable[Mapping[str, Tensor]]) -> float:
    """Mean loss per label over all batches, in nats; see :func:`item_losses`.

    Raises:
        ValueError: An example has no label, or there are no examples.
    """
    return item_losses(model, batches).mean


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put every module in eval mode, and back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _prompt_ids(tokenizer: Any, prompt: str, index: int) -> list[int]:
    ids = list(tokenizer(prompt)["input_ids"])
    if ids and ids[-1] == tokenizer.eos_token_id:  # of a tokenizer that ends every text with EOS
        ids.pop()
    if not ids:
        raise ValueError(f"Prompt {index} has no tokens; there is nothing to continue.")
    return ids


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    others = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (tokenizer.eos_token_id, *others) if token is not None})


def _pad_left(rows: Sequence[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, each (B, S), with every row at the right end."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _plain_number(answer: str | None) -> str | None:
    """The one number of an answer without grouping, currency and unit, or ``None``."""
    match = _NUMBER.match(answer or "")
    if match is None or _UNIT.fullmatch((answer or "")[match.end() :]) is None:
        return None
    sign = "" if match["sign"] in ("", "+") else "-"
    return sign + match["number"].replace(",", "") + re.sub(r"\s", "", match["fraction"] or "")


def _equal(first: str, second: str) -> bool:
    from math_verify import ExprExtractionConfig, parse, verify

    # Its time limits use signals, which work in the main thread only. Single numbers need none, nor the warning that
    # there is none.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    numbers = [parse(text, [ExprExtractionConfig()], parsing_timeout=None)[:1] for text in (first, second)]
    return bool(all(numbers) and verify(numbers[1], numbers[0], timeout_seconds=None))

"""Whether a model keeps packed examples apart, found out by running it on a few of their tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.inputs import prepare_inputs
from lora_da.statistics.batches.segments import Segments, find_segments, pick_segments

_TOKENS = 16  # of each of the two examples of the probe


class SeparationCheck:
    """Refuses packed batches of a model that does not compute the same for each example as if it were alone.

    The model runs on the beginnings of two examples in one row: the second one's outputs must not change with the
    first one's tokens, and must be what they are without it. Batches of one row and of several are tried once each,
    since kernels may tell them apart.
    """

    def __init__(self, model: nn.Module, entry: nn.Module, device: torch.device) -> None:
        """Prepare for a base model, of which ``entry`` is called with inputs on the device."""
        self._model, self._entry, self._device = model, entry, device
        self._tried: set[tuple[bool, tuple[str, ...]]] = set()

    def check(self, batch: Mapping[str, Any]) -> None:
        """Run the probe unless such a batch has been tried before.

        Raises:
            ValueError: The model lets packed examples see each other, or reads one behind another differently.
        """
        segments = find_segments(batch)
        if segments is None or segments.count == len(segments.numbers):
            return
        if getattr(getattr(self._model, "config", None), "is_encoder_decoder", False):
            name = type(self._model).__name__
            raise ValueError(f"{name} has an encoder and a decoder, whose batches can't be packed: unpack the examples")
        kind = len(segments.numbers) > 1, tuple(sorted(batch))
        lengths = [end - start for _, start, end in segments.bounds]
        if kind not in self._tried and max(lengths) > 1:
            self._tried.add(kind)
            self._probe(batch, segments, sorted(range(len(lengths)), key=lambda number: -lengths[number])[:2])

    def _probe(self, batch: Mapping[str, Any], segments: Segments, numbers: list[int]) -> None:
        height = min(2, len(segments.numbers))
        both = pick_segments(batch, segments, numbers, _TOKENS)
        alone = pick_segments(batch, segments, numbers[1:], _TOKENS)
        first = next(iter(both.values())).shape[1] - next(iter(alone.values())).shape[1]
        with torch.no_grad():
            packed, changed, single = (
                self._outputs(_repeated(probe, height)) for probe in (both, _changed(both, first - 1), alone)
            )
        if not all(bool(torch.isfinite(output).all()) for output in (packed, changed, single)):
            return  # so will the loss be, which is refused then
        epsilon = max(torch.finfo(dtype).eps for dtype in self._dtypes(packed))
        moved = _relative_change(changed, packed)
        # The last token of the first example is not changed: how it moves shows what seeing others amounts to.
        seen, leaked = float(moved[:, first - 1].max()), float(moved[:, first:].max())
        if leaked > epsilon**0.5 * seen:
            raise ValueError(self._reason(batch, "lets packed examples see each other"))
        if float(_relative_change(packed[:, first:], single).max()) > 4 * epsilon**0.5:
            raise ValueError(self._reason(batch, "reads an example behind others differently than alone"))

    def _outputs(self, probe: dict[str, Any]) -> Tensor:
        """What the model makes of each token, (B, L, …)."""
        output = self._entry(**prepare_inputs(self._model, probe, self._device))
        shape = next(value.shape[:2] for name, value in probe.items() if name in ("input_ids", "inputs_embeds"))
        entries = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else [output]
        for entry in (getattr(output, "logits", None), *entries):
            if isinstance(entry, Tensor) and entry.ndim == 3 and entry.shape[:2] == shape:
                tokens: Tensor = entry
                return tokens
        raise ValueError(
            f"the batch is packed, but {type(self._model).__name__} has no output for each token, by which examples in "
            "one row could be told apart: unpack the examples"
        )

    def _dtypes(self, output: Tensor) -> Iterator[torch.dtype]:
        yield output.dtype
        for parameter in self._model.parameters():
            if parameter.is_floating_point() and parameter.dtype.itemsize > 1:
                yield parameter.dtype

    def _reason(self, batch: Mapping[str, Any], fault: str) -> str:
        name, accepted = type(self._model).__name__, inspect.signature(self._model.forward).parameters
        if batch.get("attention_mask") is not None:
            why = "beside an attention_mask transformers ignores where packed examples begin: leave it out of the batch"
        elif batch.get("position_ids") is None:
            why = "the batch has no position_ids that start again with each example: let the collator make them"
        elif "position_ids" not in accepted:
            why = "it takes no position_ids, which tell where examples begin"
        else:
            implementation = getattr(getattr(self._model, "config", None), "_attn_implementation", None)
            why = (
                f"its attention ({implementation}) or another layer does not look at where examples begin: load it "
                'with an attn_implementation that does, such as "flash_attention_2"'
            )
        return f"{name} {fault}: {why}; or unpack the examples (packing=False, padding_free=False in TRL)"


def _repeated(probe: dict[str, Any], height: int) -> dict[str, Any]:
    """Rows that are all the same, in a batch of one row or of two."""
    if height == 1:
        return probe
    result: dict[str, Any] = {}
    for name, value in probe.items():
        if name.startswith("cu_"):
            total = value[-1]
            result[name] = torch.cat([value, value[1:] + total])
        elif isinstance(value, Tensor) and value.ndim > 1:
            result[name] = value.expand(height, *value.shape[1:]).clone()
        else:
            result[name] = value * height if isinstance(value, list) else value
    return result


def _changed(probe: dict[str, Any], tokens: int) -> dict[str, Any]:
    """The probe with other tokens at the beginning of its row, which all occur in it elsewhere if any do."""
    if "input_ids" not in probe:
        embeddings = probe["inputs_embeds"].clone()
        embeddings[:, :tokens] *= -1
        return probe | {"inputs_embeds": embeddings}
    ids = probe["input_ids"].clone()
    known = torch.cat([ids.flatten(), ids.new_tensor([0, 1])]).unique()
    ids[:, :tokens] = known[(torch.searchsorted(known, ids[:, :tokens].contiguous()) + 1) % len(known)]
    return probe | {"input_ids": ids}


def _relative_change(found: Tensor, wanted: Tensor) -> Tensor:
    """By how much each token's vector differs, in units of its length, (B, L)."""
    found, wanted = found.double(), wanted.double()
    change: Tensor = (found - wanted).norm(dim=-1) / wanted.norm(dim=-1).clamp(min=1e-30)
    return change

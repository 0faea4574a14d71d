"""The loss of a causal language model without all of its logits, which are its largest tensor by far.

The model runs up to its last hidden states. Its head then sees only the positions that predict a label, some of them at
a time: each part's logits are made, differentiated back to the hidden states, and freed.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.segments import Segments
from lora_da.statistics.hooks.forward_method import replace_forward
from lora_da.statistics.layers import Layer, ParameterLayer
from lora_da.statistics.losses.language_models import CausalLM
from lora_da.statistics.losses.targets import compute_token_losses

if TYPE_CHECKING:
    from jaxtyping import Float, Int

CHUNK_ENTRIES = 2**25
"""Logits made at once: 128 MiB in float32."""


class HiddenStates:
    """A model's last hidden states, and its head, whatever that does beside multiplying with the vocabulary.

    Attributes:
        states: The last hidden states, (B, L, d).
        vocabulary: How many logits the head makes of each.
    """

    def __init__(self, model: Any, output: Any) -> None:
        """Keep a model and the output of its decoder; see :meth:`of`."""
        self._model, self._output = model, output
        self.states: Tensor = output.last_hidden_state
        self.vocabulary = int(model.config.get_text_config().vocab_size)

    @classmethod
    def of(cls, model: Any, inputs: Mapping[str, Any], layers: Mapping[str, Layer]) -> HiddenStates | None:
        """Run a model that :func:`has_separate_head`, all but its head.

        Returns:
            None if the model does not call its decoder once, as others do, or has some of the layers behind it: its
            head can't be run by itself then.
        """
        decoder = model.get_decoder()
        outputs: list[Any] = []
        behind: list[nn.Module] = []
        inside = set(decoder.modules())
        with ExitStack() as hooks:
            handle = decoder.register_forward_hook(lambda _module, _args, output: outputs.append(output))
            hooks.callback(handle.remove)
            for layer in map(_module_of, layers.values()):
                if layer not in inside:
                    handle = layer.register_forward_hook(lambda module, *_: behind.append(module) if outputs else None)
                    hooks.callback(handle.remove)
            model(**inputs, logits_to_keep=1)
        served = len(outputs) == 1 and isinstance(getattr(outputs[0], "last_hidden_state", None), Tensor)
        return cls(model, outputs[0]) if served and not behind else None

    def logits(self, states: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens vocabulary"]:
        """Make the head's logits of some states."""
        output = copy.copy(self._output)
        output["last_hidden_state"] = states[None]
        places = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
        with replace_forward(self._model.get_decoder(), lambda *_, **__: output):
            logits: Tensor = self._model(input_ids=places, use_cache=False).logits
        return logits[0]


def has_separate_head(model: Any, layers: Mapping[str, Layer]) -> bool:
    """Tell whether a language model's head can run by itself, and holds none of the given layers."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None or "logits_to_keep" not in inspect.signature(model.forward).parameters:
        return False
    decoder = model.get_decoder()
    if decoder is None or decoder is model:
        return False
    served = set(map(_module_of, layers.values()))
    for part in model.children():  # a head may be a module of several layers, and PEFT wraps those that it adapts
        modules = set(part.modules())
        if head in modules and decoder not in modules and not modules.isdisjoint(served):
            return False
    return True


def _module_of(layer: Layer) -> nn.Module:
    return layer.module if isinstance(layer, ParameterLayer) else layer


def compute_chunked_losses(
    hidden: HiddenStates,
    labels: Int[Tensor, "batch length"],
    loss: CausalLM,
    scale: float = 1.0,
    segments: Segments | None = None,
) -> tuple[Float[Tensor, " examples"], Float[Tensor, "batch length width"] | None]:
    """Compute the loss of each example, and the gradient of all that are summed and multiplied with ``scale``.

    Returns:
        The losses in nats, and the gradient with respect to ``hidden.states``, or None where that needs none.

    Raises:
        ValueError: An example has no label.
    """
    labels = loss.place(labels.to(hidden.states.device), hidden.states)
    targets = loss.targets(labels, hidden.states, segments)
    weights = scale * targets.weights(loss.reduction)
    states = hidden.states.detach()[targets.positions]
    wanted = torch.is_grad_enabled() and hidden.states.requires_grad
    count = max(1, CHUNK_ENTRIES // hidden.vocabulary)
    losses, gradients = [], []
    parts = zip(states.split(count), targets.labels.split(count), weights.split(count), strict=True)
    for part, part_labels, weight in parts:
        with torch.set_grad_enabled(wanted):
            part = part.requires_grad_(wanted)
            found = compute_token_losses(hidden.logits(part), part_labels)
        losses.append(found.detach())
        if wanted:
            gradients.append(torch.autograd.grad(found, part, weight.to(found.dtype))[0])
    gradient = None
    if wanted:
        gradient = torch.zeros_like(hidden.states)
        gradient[targets.positions] = torch.cat(gradients)
    return targets.by_example(torch.cat(losses), loss.reduction), gradient

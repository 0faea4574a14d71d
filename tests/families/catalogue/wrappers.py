"""Hand-written modules, torch's own encoder, and what can stand around a model or an adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput

from families.family import Example, Family, causal, classified, family, generator_of, one, shifted
from models import LLAMA, VOCABULARY


class Written(nn.Module):
    """A language model by hand: a mixer between an embedding and a head, and the loss that transformers computes."""

    loss_type = "ForCausalLM"

    def __init__(self, mixer: nn.Module, width: int = 16) -> None:
        super().__init__()
        self.embedding, self.mixer, self.head = nn.Embedding(VOCABULARY, width), mixer, nn.Linear(width, VOCABULARY)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        logits = self.head(self.mixer(self.embedding(input_ids), attention_mask))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)


class Positionwise(nn.Module):
    """Two layers at each position."""

    def __init__(self, *, first: bool = True) -> None:
        super().__init__()
        self.first = first  # whether the batch is the first axis
        self.inner, self.outer = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        hidden = hidden if self.first else hidden.transpose(0, 1)
        hidden = hidden + self.outer(torch.tanh(self.inner(hidden)))
        return hidden if self.first else hidden.transpose(0, 1)


class Flattened(Positionwise):
    """The same on (B·L, d)."""

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        return super().forward(hidden.flatten(0, 1), mask).view_as(hidden)


class PositionTable(nn.Module):
    """An MLP of positions, which every example of the batch shares, beside one of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.positions, self.tokens = nn.Linear(4, 16), nn.Linear(16, 16)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        places = torch.arange(hidden.shape[1], device=hidden.device, dtype=hidden.dtype)
        waves = torch.stack([torch.sin(places / n) for n in (1, 2, 3, 4)], -1)
        return torch.tanh(self.tokens(hidden) + self.positions(waves))


class Rows(nn.Module):
    """As many rows of something else as the batch has positions, by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.other, self.tokens = nn.Linear(16, 16), nn.Linear(16, 16)
        self.table = nn.Parameter(torch.zeros(32, 16))

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        return torch.tanh(self.tokens(hidden) + torch.tanh(self.other(self.table)).mean(0))


class TorchEncoder(nn.Module):
    """torch's encoder, the sequence first or the batch."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.1, batch_first=first)
        self.first, self.encoder = first, nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        padding = None if mask is None else mask == 0
        hidden = hidden if self.first else hidden.transpose(0, 1)
        length = hidden.shape[1] if self.first else hidden.shape[0]
        causal_mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        hidden = self.encoder(hidden, mask=causal_mask, src_key_padding_mask=padding)
        return hidden if self.first else hidden.transpose(0, 1)


class Recurrent(nn.Module):
    """An LSTM between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.lstm, self.after = nn.Linear(16, 12), nn.LSTM(12, 12, batch_first=True), nn.Linear(12, 16)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        output: Tensor = self.after(self.lstm(torch.tanh(self.before(hidden)))[0])
        return output


class Classifier(nn.Module):
    """Features in, a class out."""

    loss_type = "ForSequenceClassification"

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.outer(torch.relu(self.inner(features)))
        return SequenceClassifierOutput(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)


def features(lengths: Sequence[int]) -> list[Example]:
    """Six numbers and a class."""
    generator = generator_of()
    return [
        {"features": torch.randn(1, 6, generator=generator), "labels": torch.tensor([i % 3])}
        for i, _ in enumerate(lengths)
    ]


class Around(nn.Module):
    """A module around a model, which passes everything on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Any) -> Any:
        return self.model(**inputs)


def _written(name: str, make: Callable[[], nn.Module], **own: Any) -> Family:
    return Family(name, "causal LM by hand", lambda: Written(make()), causal, shifted, **own)


def _llama(name: str, **own: Any) -> Family:
    return family(name, "causal LM", "LlamaForCausalLM", "LlamaConfig", causal, LLAMA, own)


def _gpt2(name: str, **own: Any) -> Family:
    settings = {"vocab_size": 37, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return family(name, "causal LM", "GPT2LMHeadModel", "GPT2Config", causal, settings, own)


FAMILIES = (
    _written("Layers at each position", Positionwise),
    _written("Layers at each position, sequence first", lambda: Positionwise(first=False)),
    _written("Layers at each position, flattened", Flattened),
    _written("A table of positions", PositionTable),
    _written("As many rows by chance", Rows),
    _written("nn.TransformerEncoder", lambda: TorchEncoder(first=True), left_out=("out_proj",)),
    _written("nn.TransformerEncoder, sequence first", lambda: TorchEncoder(first=False), left_out=("out_proj",)),
    _written("nn.LSTM between layers", Recurrent),
    Family("Layers on features", "classification by hand", Classifier, features, one, paddings=()),
    _llama("Llama, rank above a layer's width", rank=20, narrow=True),
    _llama(
        "Llama, ranks and alphas of its own",
        adapt={"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"q_proj": 7}, "use_rslora": True},
    ),
    _llama("Llama as PeftModelForCausalLM", adapt={"task_type": "CAUSAL_LM"}),
    _llama("Llama with modules to save", adapt={"modules_to_save": ["embed_tokens"]}),
    _llama("Llama, PeftModel.base_model", wrap=lambda model: model.base_model),
    _gpt2("GPT-2, PeftModel.base_model", wrap=lambda model: model.base_model),
    _llama("Llama, the model inside", wrap=lambda model: model.get_base_model()),
    _gpt2("GPT-2, the model inside", wrap=lambda model: model.get_base_model()),
    _llama("Llama as PeftMixedModel", mixed=True),
    _gpt2("GPT-2 as PeftMixedModel", mixed=True),
    _llama("Llama in a module", wrap=Around),
    _gpt2("GPT-2 in a module", wrap=Around),
    _gpt2("GPT-2, compiled", wrap=torch.compile),
    family(
        "BERT as PeftModelForSequenceClassification",
        "sequence classification",
        "BertForSequenceClassification",
        "BertConfig",
        classified,
        LLAMA,
        {
            "num_key_value_heads": ...,
            "num_labels": 3,
            "labels": one,
            "paddings": ("right",),
            "adapt": {"task_type": "SEQ_CLS"},
            "left_out": ("classifier",),
        },
    ),
)

"""Stacked experts against the same experts as linear layers of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_da.statistics.batches.token_rows import TokenRows
from lora_da.statistics.hooks.recorder import Recorder
from lora_da.statistics.layers import Layer, ParameterLayer
from lora_da.statistics.running_sums import RunningSums

EXPERTS, D, HIDDEN, TOKENS = 4, 5, 6, 9
# Two experts a token; nobody chooses expert 3.
CHOICES = torch.tensor([[0, 1], [1, 2], [0, 2], [1, 0], [2, 1], [0, 1], [0, 2], [2, 0], [1, 2]])


class Stacked(nn.Module):
    """As transformers has them: (E, d_out, d_in), or (E, d_in, d_out) if transposed."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        up, down = (
            torch.randn(EXPERTS, HIDDEN, D, generator=generator),
            torch.randn(EXPERTS, D, HIDDEN, generator=generator),
        )
        self.transposed = transposed
        self.up = nn.Parameter((up.mT if transposed else up).double().contiguous(), requires_grad=False)
        self.down = nn.Parameter((down.mT if transposed else down).double().contiguous(), requires_grad=False)

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight if self.transposed else nn.functional.linear(x, weight)

    def forward(self, hidden_states: Tensor, choices: Tensor) -> Tensor:
        result = torch.zeros_like(hidden_states)
        for expert in range(EXPERTS):
            tokens = torch.where((choices == expert).any(1))[0]
            if len(tokens):
                hidden = torch.tanh(self.product(hidden_states[tokens], self.up[torch.tensor(expert)]))
                result = result.index_add(0, tokens, self.product(hidden, self.down[torch.tensor(expert)]))
        return result


class Separate(nn.Module):
    """The same with a linear layer for each."""

    def __init__(self, stacked: Stacked) -> None:
        super().__init__()
        for name in ("up", "down"):
            weights = getattr(stacked, name).mT if stacked.transposed else getattr(stacked, name)
            for expert in range(EXPERTS):
                layer = nn.Linear(weights.shape[2], weights.shape[1], bias=False).double().requires_grad_(False)
                with torch.no_grad():
                    layer.weight.copy_(weights[expert])
                self.add_module(f"{name}{expert}", layer)

    def forward(self, hidden_states: Tensor, choices: Tensor) -> Tensor:
        result = torch.zeros_like(hidden_states)
        for expert in range(EXPERTS):
            tokens = torch.where((choices == expert).any(1))[0]
            if len(tokens):
                hidden = torch.tanh(getattr(self, f"up{expert}")(hidden_states[tokens]))
                result = result.index_add(0, tokens, getattr(self, f"down{expert}")(hidden))
        return result


def record(
    model: nn.Module, layers: dict[str, Layer], choices: Tensor, padding: int = 0, states: Tensor | None = None
) -> RunningSums:
    recorder = Recorder(layers, RunningSums(full_output=True))
    rows = TokenRows.where(torch.arange(TOKENS) < TOKENS - padding) if padding else TokenRows()
    states = inputs() if states is None else states
    with recorder.attached(), recorder.batch(lambda _layer, _input: rows):
        output = model(states.requires_grad_(True), choices)
        (output[: len(output) - padding] * torch.arange(D)).sin().sum().backward()
    return recorder.sums


def inputs() -> Tensor:
    return torch.randn(TOKENS, D, generator=torch.Generator().manual_seed(1)).double()


def parameters(model: nn.Module) -> dict[str, Layer]:
    return {f"{name}{index}": ParameterLayer(model, name, index) for name in ("up", "down") for index in range(EXPERTS)}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
def test_stacked_experts_have_the_sums_of_separate_ones(transposed: bool, padding: int) -> None:
    stacked = Stacked(transposed)
    separate = Separate(stacked)
    count = TOKENS - padding
    found = record(stacked, parameters(stacked), CHOICES, padding)
    layers: dict[str, Layer] = dict(separate.named_children())
    # Without padding at all: experts don't mix tokens.
    wanted = record(separate, layers, CHOICES[:count], states=inputs()[:count])
    assert found.tokens == wanted.tokens
    assert "up3" not in found.tokens
    for kind in ("gradient_sums", "output_sums", "input_sums"):
        mine, others = getattr(found, kind), getattr(wanted, kind)
        assert mine.keys() == others.keys()
        for name, value in others.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-10, atol=1e-12)


def test_a_single_matrix_is_served_like_a_layer() -> None:
    class Router(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(D).double(), requires_grad=False)

        def forward(self, x: Tensor, _choices: Any) -> Tensor:
            return nn.functional.linear(x, self.weight)

    router, layer = Router(), nn.Linear(D, D, bias=False).double().requires_grad_(False)
    with torch.no_grad():
        layer.weight.copy_(router.weight)
    found = record(router, {"router": ParameterLayer(router, "weight")}, CHOICES)

    class Plain(nn.Module):
        def forward(self, x: Tensor, _choices: Any) -> Any:
            return layer(x)

    wanted = record(Plain(), {"router": layer}, CHOICES)
    for kind in ("gradient_sums", "output_sums", "input_sums"):
        assert torch.equal(getattr(found, kind)["router"], getattr(wanted, kind)["router"])


def test_a_router_that_computes_in_another_precision_is_served() -> None:
    class Router(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(D).bfloat16(), requires_grad=False)

        def forward(self, x: Tensor, _choices: Any) -> Tensor:
            return nn.functional.linear(x.type(torch.float64), self.weight.type(torch.float64))

    router = Router()
    found = record(router, {"router": ParameterLayer(router, "weight")}, CHOICES)
    assert found.tokens == {"router": TOKENS}
    assert torch.equal(found.input_sums["router"], inputs().mT @ inputs())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # the weights' own, and another
def test_casts_of_experts_do_not_mix_them_up(dtype: torch.dtype) -> None:
    class Casting(Stacked):
        def product(self, x: Tensor, weight: Tensor) -> Tensor:
            self.up.to(dtype)  # of all at once
            return super().product(x.to(dtype), weight.to(dtype)).double()

    stacked, casting = Stacked(), Casting()
    wanted = record(stacked, parameters(stacked), CHOICES)
    found = record(casting, parameters(casting), CHOICES)
    assert found.tokens == wanted.tokens
    for name, value in wanted.gradient_sums.items():
        torch.testing.assert_close(found.gradient_sums[name].double(), value, rtol=1e-3, atol=1e-4)


def test_experts_that_are_multiplied_in_an_unknown_way_are_refused() -> None:
    class AllAtOnce(Stacked):
        def forward(self, hidden_states: Tensor, choices: Tensor) -> Tensor:
            return torch.bmm(hidden_states.expand(EXPERTS, -1, -1), self.up.mT).sum(0)[:, :D]

    stacked = AllAtOnce()
    with pytest.raises(ValueError, match=r"AllAtOnce multiplies .*\(up0, …\) in a way that is not known"):
        record(stacked, parameters(stacked), CHOICES)


def test_experts_that_got_no_token_are_no_error_where_others_did() -> None:
    stacked = Stacked()
    alone: dict[str, Layer] = {"up3": ParameterLayer(stacked, "up", 3)}  # as in one of several passes
    assert record(stacked, alone, CHOICES).tokens == {}


def test_experts_whose_tokens_are_hidden_are_refused() -> None:
    class Mixing(Stacked):
        def forward(self, hidden_states: Tensor, choices: Tensor) -> Tensor:
            return self.product(hidden_states * 1.0, self.up[torch.tensor(0)])[:, :D]

    stacked = Mixing()
    with pytest.raises(ValueError, match="can't be told which tokens expert up0 receives"):
        record(stacked, parameters(stacked), CHOICES)

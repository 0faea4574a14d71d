"""The recorder by itself, on networks small enough to write the sums down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lora_da.statistics.batches.token_rows import TokenRows
from lora_da.statistics.hooks.recorder import Recorder
from lora_da.statistics.running_sums import RunningSums


def _linear(d_in: int, d_out: int, seed: int) -> nn.Linear:
    layer = nn.Linear(d_in, d_out, bias=False).double().requires_grad_(False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(seed)))
    return layer


def _input(*shape: int, seed: int = 9) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _record(
    layers: dict[str, nn.Module],
    forward: Callable[[], Tensor],
    rows: TokenRows | None = None,
    loss_scale: float = 1.0,
    full_output: bool = True,
) -> RunningSums:
    recorder = Recorder(layers, RunningSums(full_output=full_output, loss_scale=loss_scale))
    with recorder.attached(), recorder.batch(lambda _layer, _tensor: rows or TokenRows()):
        forward().backward()
    return recorder.sums


def test_sums_by_hand() -> None:
    layer = _linear(2, 2, 0)
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.0], [2.0, -1.0]], dtype=torch.float64)
    sums = _record({"layer": layer}, lambda: (layer(x) * weights).sum())
    # g is the weights: Σ g aᵀ = [1, 0]ᵀ[1, 2] + [2, −1]ᵀ[3, 4], Σ a aᵀ and Σ g gᵀ likewise.
    assert sums.gradient_sums["layer"].tolist() == [[7.0, 10.0], [-3.0, -4.0]]
    assert sums.input_sums["layer"].tolist() == [[10.0, 14.0], [14.0, 20.0]]
    assert sums.output_sums["layer"].tolist() == [[5.0, -2.0], [-2.0, 1.0]]
    assert sums.tokens == {"layer": 2}


@pytest.mark.parametrize("gradient", [0.0, torch.nan, 3.0])
def test_padding_is_left_out_but_where_a_gradient_reaches_it(gradient: float) -> None:
    layer = _linear(2, 2, 0)
    hole = 5.0 if gradient == 3.0 else torch.nan
    x = torch.tensor([[1.0, 2.0], [hole, hole], [3.0, 4.0]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.0], [gradient, 0.0], [2.0, -1.0]], dtype=torch.float64)
    rows = TokenRows.where(torch.tensor([True, False, True]))
    sums = _record({"layer": layer}, lambda: (layer(x) * weights).sum(), rows)
    # As autograd has it: a loss that reaches padding changes the weight's gradient, but no factor and no count.
    added = 15.0 if gradient == 3.0 else 0.0
    assert sums.gradient_sums["layer"].tolist() == [[7.0 + added, 10.0 + added], [-3.0, -4.0]]
    assert sums.input_sums["layer"].tolist() == [[10.0, 14.0], [14.0, 20.0]]
    assert sums.output_sums["layer"].tolist() == [[5.0, -2.0], [-2.0, 1.0]]
    assert sums.tokens == {"layer": 2}


def test_the_diagonal_is_that_of_the_full_output_sum() -> None:
    layer, x = _linear(3, 4, 0), _input(5, 3)
    full, diagonal = (
        _record({"layer": layer}, lambda: torch.tanh(layer(x)).sum(), full_output=full) for full in (True, False)
    )
    torch.testing.assert_close(diagonal.output_sums["layer"], full.output_sums["layer"].diagonal())


def test_the_loss_scale_is_divided_out() -> None:
    layer, x = _linear(3, 4, 0), _input(5, 3)
    plain = _record({"layer": layer}, lambda: torch.tanh(layer(x)).sum())
    scaled = _record({"layer": layer}, lambda: 1024 * torch.tanh(layer(x)).sum(), loss_scale=1024)
    for part in ("gradient_sums", "output_sums", "input_sums"):
        assert torch.equal(getattr(plain, part)["layer"], getattr(scaled, part)["layer"])


def test_layers_of_one_tensor_share_its_sum() -> None:
    q, k, o = _linear(3, 3, 0), _linear(3, 3, 1), _linear(3, 2, 2)
    x = _input(4, 3)
    sums = _record({"q": q, "k": k, "o": o}, lambda: o(torch.tanh(q(x)) * k(x)).sum())
    assert sums.input_groups == {"q": "q", "k": "q", "o": "o"}
    assert set(sums.input_sums) == {"q", "o"}
    torch.testing.assert_close(sums.input_sums["q"], x.T @ x)
    assert sums.tokens == {"q": 4, "k": 4, "o": 4}


def test_a_shared_sum_is_made_when_the_first_of_the_group_gets_no_gradient() -> None:
    q, k, x = _linear(3, 3, 0), _linear(3, 3, 1), _input(4, 3)

    def forward() -> Any:
        q(x)
        return k(x).square().sum()

    sums = _record({"q": q, "k": k}, forward)
    assert sums.tokens == {"k": 4}
    torch.testing.assert_close(sums.input_sums[sums.input_groups["k"]], x.T @ x)


def test_a_layer_called_twice_with_one_tensor_counts_it_twice_as_autograd_does() -> None:
    layer, x = _linear(3, 3, 0), _input(4, 3)
    sums = _record({"layer": layer}, lambda: (torch.tanh(layer(x)) * layer(x)).sum())
    weight = layer.weight.clone().requires_grad_(True)
    (torch.tanh(x @ weight.T) * (x @ weight.T)).sum().backward()
    torch.testing.assert_close(sums.gradient_sums["layer"], weight.grad)
    # The mean of a aᵀ is over the tokens that are counted, so that the two have to fit.
    tokens = sums.tokens["layer"]
    torch.testing.assert_close(sums.input_sums["layer"] / tokens, x.T @ x / 4)


def test_layers_that_share_only_some_of_their_inputs_have_sums_of_their_own() -> None:
    """As DeBERTa's keys do, which also receive the table of relative positions."""
    q, k, x, table = _linear(3, 3, 0), _linear(3, 3, 1), _input(4, 3), _input(5, 3, seed=1)
    sums = _record({"q": q, "k": k}, lambda: (q(x) * k(x)).sum() + k(table).square().sum())
    assert sums.tokens == {"q": 4, "k": 9}
    assert sums.input_groups == {"q": "q", "k": "k"}
    torch.testing.assert_close(sums.input_sums["q"], x.T @ x)
    torch.testing.assert_close(sums.input_sums["k"], x.T @ x + table.T @ table)


def test_a_change_of_who_shares_an_input_is_refused() -> None:
    q, k, x = _linear(3, 3, 0), _linear(3, 3, 1), _input(4, 3)
    recorder = Recorder({"q": q, "k": k}, RunningSums())
    with recorder.attached():
        for apart in (lambda x: x, torch.tanh):
            with recorder.batch(lambda _layer, _tensor: TokenRows()):
                (q(x) * k(apart(x))).sum().backward()
    with pytest.raises(ValueError, match=r"layers . and q share their input in some batches or calls, but not in all"):
        recorder.sums.finish()


def test_an_unused_output_leaves_no_trace() -> None:
    used, unused, x = _linear(3, 3, 0), _linear(3, 3, 1), _input(4, 3)

    def forward() -> Any:
        unused(x * 2)
        return used(x).square().sum()

    sums = _record({"used": used, "unused": unused}, forward)
    assert sums.tokens == {"used": 4}
    assert set(sums.input_sums) == {"used"}


def test_a_layer_that_gives_more_than_a_product_leaves_no_trace() -> None:
    class Router(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x).relu(), x

    router, last, x = Router(3, 3), _linear(3, 1, 0), _input(4, 3).float()
    sums = _record({"router": router, "last": last}, lambda: last(router(x)[0].double()).sum())
    assert sums.tokens == {"last": 4}


@pytest.mark.parametrize("first", [True, False])
def test_outputs_may_be_changed_in_place(first: bool) -> None:
    layer, x = _linear(3, 4, 0), _input(5, 3)
    start = x if first else x.clone().requires_grad_(True)
    sums = _record({"layer": layer}, lambda: layer(start).relu_().square().sum())
    weight = layer.weight.clone().requires_grad_(True)
    (x @ weight.T).relu().square().sum().backward()
    torch.testing.assert_close(sums.gradient_sums["layer"], weight.grad)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_token_counts_once(reentrant: bool) -> None:
    q, k, x = _linear(3, 3, 0), _linear(3, 3, 1), _input(4, 3)

    def block(x: Tensor) -> Any:
        return torch.tanh(q(x)) * k(x)

    def forward() -> Any:
        start = x.clone().requires_grad_(True)
        output: Any = checkpoint(block, start, use_reentrant=reentrant)
        return output.square().sum()

    plain = _record({"q": q, "k": k}, lambda: block(x).square().sum())
    found = _record({"q": q, "k": k}, forward)
    assert found.tokens == plain.tokens == {"q": 4, "k": 4}
    assert found.input_groups == plain.input_groups
    for part in ("gradient_sums", "output_sums", "input_sums"):
        for name, value in getattr(plain, part).items():
            torch.testing.assert_close(getattr(found, part)[name], value)


def test_inputs_may_come_by_name_and_calls_outside_a_batch_are_ignored() -> None:
    layer, x = _linear(3, 4, 0), _input(5, 3)
    recorder = Recorder({"layer": layer}, RunningSums())
    with recorder.attached():
        layer(x.clone().requires_grad_(True)).sum().backward()
        assert recorder.sums.tokens == {}
        with recorder.batch(lambda _layer, _tensor: TokenRows()):
            with torch.no_grad():
                layer(x)
            layer(input=x).sum().backward()
    assert recorder.sums.tokens == {"layer": 5}


def test_no_weight_gets_a_gradient_and_half_precision_is_summed_in_float32() -> None:
    layer = _linear(3, 4, 0).bfloat16()
    x: Any = _input(5, 3).bfloat16()
    sums = _record({"layer": layer}, lambda: layer(x).float().square().sum())
    assert layer.weight.grad is None
    assert sums.input_sums["layer"].dtype == torch.float32
    torch.testing.assert_close(sums.input_sums["layer"], x.float().T @ x.float())

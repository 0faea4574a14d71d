"""Linear maps that are no layers: the experts of a mixture, stacked in one parameter, and routers.

Such a module has no submodule to hook. While it is watched it runs its plain forward method, one expert after another,
and every product with one of its weights is recognised by where the weight lies in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lora_da.statistics.batches.token_rows import TokenRows
from lora_da.statistics.hooks.forward_method import replace_forward

_PRODUCTS = (F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__)
_CASTS = (Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.double, Tensor.bfloat16, Tensor.half)

TapProduct = Callable[[str, Tensor, Tensor, TokenRows], Tensor]
"""A function of a name, its input (n, d_in), output (n, d_out) and token rows that gives the output to use."""


@contextmanager
def watch_products(
    module: nn.Module,
    names: Mapping[tuple[str, int | None], str],
    recorded_rows: Callable[[str, Tensor], TokenRows | None],
    tap: TapProduct,
) -> Iterator[None]:
    """Tap the products of a module with some of its parameters, however it is called.

    Args:
        module: The module.
        names: The names of the maps, by parameter and index.
        recorded_rows: A function of a name and the module's input that tells which rows of that are tokens, or None
            while nothing is recorded.
        tap: What is done with a product.
    """
    usual = module.forward
    # transformers keeps the plain method behind those that multiply with several experts at once.
    plain = getattr(type(module).forward, "__wrapped__", type(module).forward)
    first = next(iter(names.values()))

    def forward(hidden_states: Tensor, *arguments: Any, **options: Any) -> Any:
        rows = recorded_rows(first, hidden_states)
        if rows is None:
            return usual(hidden_states, *arguments, **options)
        with _Products(module, names, hidden_states, rows, tap) as products:
            output = plain(module, hidden_states, *arguments, **options)
        if hidden_states.numel() and not products.recognised:
            raise ValueError(
                f"{type(module).__name__} multiplies with its parameters ({first}, …) in a way that is not known, such "
                "as torch.bmm for all experts at once: leave it out of target_parameters"
            )
        return output

    with replace_forward(module, forward):
        yield


class _Products(TorchFunctionMode):
    """Recognises the products of one call of a module.

    Attributes:
        recognised: Whether there was one.
    """

    def __init__(
        self,
        module: nn.Module,
        names: Mapping[tuple[str, int | None], str],
        hidden_states: Tensor,
        rows: TokenRows,
        tap: TapProduct,
    ) -> None:
        super().__init__()
        self._weights = {parameter: getattr(module, parameter) for parameter, _ in names}
        self._names, self._input, self._rows, self._tap = names, hidden_states, rows, tap
        self._copies: list[tuple[Tensor, tuple[str | None, bool]]] = []  # of weights in another precision
        self.recognised = False
        self._tokens: Tensor | None = None  # the rows of the input that the expert at work was given

    def __torch_function__(
        self, function: Any, _types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        if function is Tensor.__getitem__ and arguments[0] is self._input and isinstance(arguments[1], Tensor):
            self._tokens = arguments[1]
        elif function in _PRODUCTS and isinstance(arguments[1], Tensor):
            found = self._name_of(arguments[1])
            if found is not None:
                self.recognised = True
                name, stacked = found
                if name is not None:
                    return self._tap(name, arguments[0], result, self._of_tokens(name) if stacked else self._rows)
        elif function in _CASTS and arguments[0].ndim == 2 and result is not arguments[0]:
            found = self._name_of(arguments[0])
            if found is not None:
                self._copies.append((result, found))
        return result

    def _name_of(self, weight: Tensor) -> tuple[str | None, bool] | None:
        """The name of the map with this weight, if it is wanted, and whether it is one of several; None for others."""
        for copy, found in self._copies:
            if weight.untyped_storage().data_ptr() == copy.untyped_storage().data_ptr():
                return found
        for parameter, whole in self._weights.items():
            if weight.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
                continue
            stacked = whole.ndim == 3
            index = (weight.storage_offset() - whole.storage_offset()) // whole.stride(0) if stacked else None
            return self._names.get((parameter, index)), stacked
        return None

    def _of_tokens(self, name: str) -> TokenRows:
        """Which of the rows that the expert was given are tokens."""
        if self._tokens is None:
            raise ValueError(
                f"it can't be told which tokens expert {name} receives: leave its module out of target_parameters"
            )
        return self._rows.among(self._tokens, self._input.shape[:-1].numel())

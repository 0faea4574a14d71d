"""Rows that a module has chosen from what another received, recognised by their very bits.

The experts of a mixture that are modules receive some tokens each, and only these rows' contents tell which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lora_da.statistics.batches.token_rows import TokenRows

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


FindRows = Callable[[nn.Module, Tensor], tuple[TokenRows, bool]]
"""A function of a module and its input that finds the token rows, and tells whether they could be told."""


class ChosenRows:
    """Tells which rows are tokens of modules that receive only some of those that a module around them does.

    While it is attached it watches the modules around each of them.
    """

    def __init__(self, sources: Mapping[nn.Module, Sequence[nn.Module]]) -> None:
        """Prepare for modules, each with those around it: the innermost first, the last one the source of its rows."""
        self._sources = sources
        self._received: dict[nn.Module, tuple[Tensor, TokenRows]] = {}
        self._within: dict[nn.Module, tuple[int, TokenRows | None]] = {}

    def attach(self, hooks: ExitStack, find_rows: FindRows) -> None:
        """Watch until the stack is closed; ``find_rows`` finds the token rows of the sources themselves."""
        self._received.clear()
        self._within.clear()
        outer = {around[-1] for around in self._sources.values()}
        for module in {one for around in self._sources.values() for one in around}:
            hooks.callback(module.register_forward_pre_hook(self._watch(find_rows, outer), with_kwargs=True).remove)

    def find(self, module: nn.Module, module_input: Tensor) -> TokenRows | None:
        """Return the token rows of an input, or None if they can't be told."""
        around = self._sources.get(module)
        if around is None:
            return None
        rows = self._matching(around[-1], module_input)
        count = module_input.shape[:-1].numel()
        for outer in around[:-1]:
            if rows is not None:
                break
            if outer in self._within and self._within[outer][0] == count:
                rows = self._within[outer][1]
        return rows

    def _watch(self, find_rows: FindRows, outer: set[nn.Module]) -> Any:
        def watch(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
            given = next((one for one in (*arguments, *options.values()) if _is_matrix(one)), None)
            if given is None:
                return
            if module in outer:
                rows, told = find_rows(module, given)
                if told:
                    self._received[module] = _fingerprints(given), rows
                else:
                    self._received.pop(module, None)
            else:
                source = next((around[-1] for around in self._sources.values() if module in around), None)
                copied = None if source is None else self._matching(source, given)
                self._within[module] = given.shape[:-1].numel(), copied

        return watch

    def _matching(self, source: nn.Module, module_input: Tensor) -> TokenRows | None:
        """The token rows among those that are copies of the source's."""
        if source not in self._received:
            return None
        known, rows = self._received[source]
        own = _fingerprints(module_input)
        if rows.tokens is None:
            return rows if bool(torch.isin(own, known).all()) else None
        tokens = torch.zeros(len(known), dtype=torch.bool, device=known.device)
        tokens[rows.tokens.to(known.device)] = True
        are_tokens, are_padding = torch.isin(own, known[tokens]), torch.isin(own, known[~tokens])
        if bool((are_tokens == are_padding).any()):  # neither, or either
            return None
        return TokenRows.where(are_tokens)


def _is_matrix(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1


def _fingerprints(matrix: Tensor) -> Tensor:
    """A number for each row, from all of its bits."""
    rows = matrix.detach().flatten(0, -2).contiguous()
    bits = rows.view(_INTEGERS[rows.element_size()]).long()
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(2**62, (bits.shape[1],), generator=generator).to(bits.device) * 2 + 1
    return (bits * weights).sum(1)

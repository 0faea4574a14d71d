"""Sums of many products: where they are kept, and how they lose no precision."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

Place = Literal["device", "host"]

COMPENSATED_ABOVE = 256
"""Addends. Rounding errors of plain float32 sums grow with their number, by 6e-8 each at worst."""

_IN_FLIGHT = 4  # products on their way to the host: as many pinned buffers, each as large as the largest product


class Accumulator:
    """Adds to named sums, beside the model or in the host's memory.

    Products of layers on a GPU reach the host through pinned buffers and a stream of their own, and a thread adds them
    up there, while the GPU computes the next ones.
    """

    def __init__(self, place: Place = "device", *, compensated: bool = False) -> None:
        """Prepare sums.

        Args:
            place: Where they are kept.
            compensated: Carry along what rounding takes off each sum (Kahan 1965), in bfloat16: its 8 bits follow on
                the sum's own, for half of float32's memory.
        """
        self._place = place
        self._compensated = compensated
        self._carries: dict[tuple[int, str], Tensor] = {}
        self._adding: deque[Future[None]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def add(self, sums: dict[str, Tensor], name: str, addend: Float[Tensor, ...]) -> None:
        """Add to one of the sums; ``addend`` may be taken over as it is."""
        if self._place == "device" or addend.device.type != "cuda":
            self._add(sums, name, addend)
            return
        self._thread = self._thread or ThreadPoolExecutor(max_workers=1)
        while len(self._adding) >= _IN_FLIGHT:
            self._adding.popleft().result()
        stream = self._streams.setdefault(addend.device, torch.cuda.Stream(addend.device))
        stream.wait_stream(torch.cuda.current_stream(addend.device))
        buffer = torch.empty(addend.shape, dtype=addend.dtype, pin_memory=True)
        with torch.cuda.stream(stream):
            buffer.copy_(addend, non_blocking=True)
            arrived = stream.record_event()
        addend.record_stream(stream)
        self._adding.append(self._thread.submit(self._add_arrived, sums, name, buffer, arrived))

    def wait(self) -> None:
        """Return when everything is added."""
        while self._adding:
            self._adding.popleft().result()

    def finish(self) -> None:
        """Wait, and free everything but the sums."""
        self.wait()
        self._carries.clear()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _add_arrived(self, sums: dict[str, Tensor], name: str, buffer: Tensor, arrived: torch.cuda.Event) -> None:
        arrived.synchronize()
        if name not in sums:
            sums[name] = torch.zeros_like(buffer, pin_memory=False)  # the buffer is needed again
        self._add(sums, name, buffer)

    def _add(self, sums: dict[str, Tensor], name: str, addend: Tensor) -> None:
        if name not in sums:
            sums[name] = addend
        elif not self._compensated or addend.dtype == torch.float64:
            sums[name] += addend
        else:
            key = id(sums), name
            if key not in self._carries:
                self._carries[key] = torch.zeros_like(addend, dtype=torch.bfloat16)
            carry, before = self._carries[key], sums[name]
            addend = addend + carry
            sums[name] = before + addend
            carry.copy_(addend.sub_(sums[name] - before))

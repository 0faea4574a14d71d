from __future__ import annotations

import itertools
import signal

import pytest

from lora_da.system.time_limit import TooSlowError, time_limit


def test_what_has_no_end_is_ended() -> None:
    def endless() -> None:
        with time_limit(0.05):
            for _ in itertools.count():
                pass

    with pytest.raises(TooSlowError, match=r"more than 0\.05 seconds"):
        endless()
    with time_limit(60):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

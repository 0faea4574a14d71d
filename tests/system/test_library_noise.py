from __future__ import annotations

import logging

import pytest

from lora_da.system.library_noise import silence_libraries


def test_these_lines_and_no_others_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    names = ("torchao", "torch.utils._pytree", "transformers.tokenization_utils_base")
    loggers = [logging.getLogger(name) for name in names]
    before = [list(logger.filters) for logger in loggers]
    lines = [
        (loggers[0], "Failed to load _C.so: Could not load this library"),
        (loggers[0], "an error of torchao"),
        (loggers[1], "Calling register_constant() on Enum subclasses is deprecated"),
        (loggers[1], "another line of torch"),
        (loggers[2], "Token indices sequence length is longer than the specified maximum (900 > 512)"),
        (loggers[2], "another line of transformers"),
        (logging.getLogger("other"), "Failed to load the weights"),
    ]
    silence_libraries()
    try:
        for logger, line in lines:
            logger.warning(line)
    finally:
        for logger, filters in zip(loggers, before, strict=True):
            logger.filters = filters
    given = [line for _, line in lines]
    kept = [record.getMessage() for record in caplog.records if record.getMessage() in given]
    assert kept == [given[number] for number in (1, 3, 5, 6)]

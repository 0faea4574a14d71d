from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lora-da")
    group.addoption("--every-layer", action="store_true", help="solve every layer of the real model, not some blocks")
    group.addoption("--results", metavar="FOLDER", help="write what the test on the real model saw to this folder")

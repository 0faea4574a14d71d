from __future__ import annotations

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lora-da")
    group.addoption("--every-layer", action="store_true", help="solve every layer of the real model, not some blocks")
    group.addoption("--results", metavar="FOLDER", help="write what the test on the real model saw to this folder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))

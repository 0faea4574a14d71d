from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True, scope="session")
def _imports_are_not_searched() -> None:
    """A run ends with a search for garbage, which would look through all that torch and transformers have made."""
    gc.collect()
    gc.freeze()

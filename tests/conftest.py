"""Every annotation of the library, the shapes of tensors included, is checked while the tests run."""

from __future__ import annotations

import builtins
from pathlib import Path

import jaxtyping
import pytest
import torch

from folders import sums_file, tiny_model_folder

# The library names these types in annotations alone, so that it need not import jaxtyping: they are put where an
# annotation that is read as text finds them. The hook has to be there before the library is imported.
for _name in ("Bool", "Float", "Float32", "Float64", "Int", "Shaped"):
    setattr(builtins, _name, getattr(jaxtyping, _name))
# Not the faces that check for themselves what a user gives them (api, config), nor what serves the commands alone.
_CHECKED = ("pipeline", "report", "adapter", "solver", "distributed", "statistics", "system")
# Not at random, since tests compare random states; an int may stand for a float.
_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True, is_random=False, is_color=False))"
jaxtyping.install_import_hook([f"lora_da.{package}" for package in _CHECKED], _CHECKER)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lora-da")
    group.addoption("--every-layer", action="store_true", help="solve every layer of the real model, not some blocks")
    group.addoption("--results", metavar="FOLDER", help="write what the test on the real model saw to this folder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with its tokenizer, which no test changes."""
    return tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def model(folder: Path) -> str:
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sums_file(tmp_path_factory.mktemp("data") / "sums.jsonl"))

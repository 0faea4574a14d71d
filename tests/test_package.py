"""The package as it is installed: what it announces, what it imports, what it holds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import lora_da
import lora_da.loading
import lora_da.losses

ROOT = Path(__file__).parents[1]


FACES: list[ModuleType] = [lora_da, lora_da.losses, lora_da.loading]


@pytest.mark.parametrize("package", FACES, ids=lambda package: package.__name__)
def test_everything_announced_is_there(package: ModuleType) -> None:
    for name in package.__all__:
        assert hasattr(package, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
    assert set(package.__all__) <= set(dir(package))


def test_everything_announced_is_in_the_reference() -> None:
    reference = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    announced = [f"{package.__name__}.{name}" for package in FACES for name in package.__all__]
    assert sorted(name for name in reference if not name.startswith("lora_da_bench")) == sorted(announced)


def test_the_core_imports_only_its_own_requirements() -> None:
    """Torch, PEFT (with what that brings), safetensors and tqdm: nothing of the command line's extras."""
    program = (
        "import sys, lora_da\n"
        "[getattr(lora_da, name) for name in lora_da.__all__]\n"
        "print({'datasets', 'matplotlib', 'typer', 'trl', 'gguf', 'math_verify'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(("project", "package"), [(ROOT, "lora_da"), (ROOT / "bench", "lora_da_bench")])
def test_a_wheel_holds_its_package_alone(project: Path, package: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(project)]
    subprocess.run(command, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = project / "src"
    paths = (path.relative_to(source) for path in (source / package).rglob("*") if path.is_file())
    assert held == {path.as_posix() for path in paths if "__pycache__" not in path.parts}
    assert f"{package}/py.typed" in held


def layout() -> str:
    """The packages, and the modules beside the faces, each with the first line of its docstring."""
    lines = []
    for root in (ROOT / "src" / "lora_da", ROOT / "bench" / "src" / "lora_da_bench"):
        faces = {path.parent: path for path in root.rglob("__init__.py")}
        modules = {path: path for path in root.glob("*.py") if not path.name.startswith("_")}
        for place, file in sorted((faces | modules).items(), key=lambda item: item[0].with_suffix("").parts):
            first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            name = place.relative_to(root.parent).parts
            indented = "  " * (len(name) - 1) + name[-1] + "/" * place.is_dir()
            lines.append(f"{indented:<18}{first}\n")
    return "".join(lines)


def test_the_layout_that_contributors_read() -> None:
    assert f"```text\n{layout()}```" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_oldest_versions_tried_are_the_lowest_declared() -> None:
    declared: dict[str, str] = {}
    for folder, extras in ((ROOT, ("cli", "quantised")), (ROOT / "bench", ())):
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for text in sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"]):
            requirement = Requirement(text)
            lowest = [specifier.version for specifier in requirement.specifier if specifier.operator == ">="]
            if requirement.name not in ("torch", "lora-da"):
                assert declared.setdefault(requirement.name, lowest[0]) == lowest[0]
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert tried.keys() == declared.keys()
    assert all(Version(tried[name]) in SpecifierSet(f"=={declared[name]}.*") for name in tried)

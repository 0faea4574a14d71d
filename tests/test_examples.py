"""Every code block of the documents runs, with a tiny model and little data in place of the reader's.

The blocks of a document run one after the other in one folder, those of Python in one namespace. A block that begins
with a comment of a file's name is that file. A block that can't run follows `<!-- skip: next "reason" -->`. Parts of
scripts, which the guides show, are run by `tests/examples`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest

import datasets
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, SFTConfig
from typer.testing import CliRunner

from folders import sums_file, tiny_model_folder
from lora_da.cli.app import app
from lora_da_bench.cli.app import app as bench
from lora_da_bench.methods import registry

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "examples/README.md",
]
NOT_CODE = {"text", "bibtex"}
SKIPPED = 4  # blocks in all documents that are not run
APPS = {"lora-da": app, "lora-da-bench": bench}
SHORT_TRAINING = ["--max_steps", "1", "--use_cpu", "--bf16", "false", "--report_to", "none"]

EXPERIMENT = """
name = "experiment"
methods = ["lora", "orthogonal-a"]
model = { name = "MODEL", device = "cpu" }
protocol = { learning_rates = [1e-2], steps = 1, seeds = [0], fresh_seeds = [1], evaluations = 1, growth = 0 }

[task]
kind = "generation"
train = "gsm8k/train.jsonl"
test = "gsm8k/test.jsonl"
validation_rows = 4
test_rows = 4
accuracy = false
options = { prompt = "question", completion = "answer" }
"""


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a reader has before the first block: MODEL, DATA and other files, and names for them in Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORA_DA_DATA", str(tmp_path))
    tiny_model_folder(tmp_path / "MODEL")
    for length, name in enumerate(("train", "test", "part1", "part2"), start=12):
        sums_file(tmp_path / f"{name}.jsonl", length)
    rows = datasets.Dataset.from_json(str(tmp_path / "train.jsonl"), cache_dir=str(tmp_path / "cache"))
    rows.save_to_disk("DATA")
    units = ("$", "hours", "apples")
    questions = [{"question": f"{n} {units[n % 3]} + 7?", "answer": f"Added: #### {n + 7}"} for n in range(600)]
    for name, part in (("train", questions[:400]), ("test", questions[400:])):
        datasets.Dataset.from_list(part).to_json(f"gsm8k/{name}.jsonl")
    Path("text").mkdir()
    Path("text/wikitext2-valid.txt").write_text("Some text of no task at all. " * 400)
    Path("smollm2").symlink_to("MODEL")  # a folder comes before the short name
    for name in ("HuggingFaceTB/SmolLM2-135M-Instruct", "openai/gsm8k"):  # and before what a hub has
        Path(name).parent.mkdir()
        Path(name).symlink_to(tmp_path / {"openai/gsm8k": "gsm8k"}.get(name, "MODEL"))
    Path("gsm8k/README.md").write_text("---\nconfigs:\n- config_name: main\n  data_files: train.jsonl\n---\n")
    Path("experiment.toml").write_text(EXPERIMENT)
    monkeypatch.setattr(registry, "METHODS", registry.METHODS.copy())
    examples = [{"input_ids": ids, "labels": ids} for ids in torch.randint(1, 200, (16, 12))]

    def adapted(base: Any) -> Any:
        return get_peft_model(base, LoraConfig(r=2, target_modules="all-linear"))

    rewards = AutoModelForSequenceClassification.from_pretrained("MODEL", num_labels=1, pad_token_id=0)
    quiet: dict[str, Any] = {"output_dir": "run", "max_steps": 1, "use_cpu": True, "bf16": False, "report_to": "none"}
    pairs = [{"prompt": f"{n} + 7", "chosen": f" {n + 7}", "rejected": f" {n + 8}"} for n in range(8)]
    return {
        "lora": LoraConfig(r=2, target_modules="all-linear"),
        "peft_model": adapted(AutoModelForCausalLM.from_pretrained("MODEL")),
        "teacher": AutoModelForCausalLM.from_pretrained("MODEL"),
        "encoder": adapted(AutoModel.from_pretrained("MODEL")),
        "reward_model": adapted(rewards),
        "pairs": DataLoader(examples, batch_size=4),  # type: ignore[arg-type]
        "preferences": datasets.Dataset.from_list(pairs),
        "dpo_args": DPOConfig(**quiet),
        "tokenizer": AutoTokenizer.from_pretrained("MODEL", pad_token="</s>"),
        "model": AutoModelForCausalLM.from_pretrained("MODEL"),
        "dataset": rows,
        "dataloader": DataLoader(examples, batch_size=4),  # type: ignore[arg-type]
        "args": SFTConfig(**quiet),
    }


def run_shell(example: Example) -> None:
    """Run our commands; check what else may stand in a block."""
    for line in str(example.parsed).replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            run_command(words)


def run_python(example: Example) -> None:
    """Run a block, or check that the part of a script exists that it is."""
    if part := re.fullmatch(r"--8<--\n(examples/\w+\.py):(\w+)\n--8<--\n", str(example.parsed)):
        script = (ROOT / part[1]).read_text(encoding="utf-8")
        assert all(script.count(f"# --8<-- [{end}:{part[2]}]") == 1 for end in ("start", "end")), part[0]
    else:
        PythonEvaluator()(example)


def check_script(arguments: list[str]) -> None:
    """A script of ours, and options that it has."""
    script = (ROOT / arguments[0]).read_text(encoding="utf-8")
    assert all(f'"{word}"' in script for word in arguments[1:] if word.startswith("--")), arguments


def run_command(words: list[str]) -> None:
    program, *rest = words
    if rest and rest[0].startswith("examples/"):  # by python, or by accelerate launch
        return check_script(rest)
    if rest[1:] and rest[1].startswith("examples/"):
        return check_script(rest[1:])
    if program in ("accelerate", "torchrun"):  # what they would start in every process
        program, rest = "lora-da", rest[rest.index("lora_da") + 1 :]
    if program in APPS:
        run_ours(program, rest)
    elif program == "make":
        assert all(re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for name in rest)
    elif words[:2] == ["pip", "install"]:
        check_installation(rest[1:])
    elif program == ".venv/bin/python":
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests/"))
    elif program not in ("export", "git"):
        raise AssertionError(f"{program} is none of the programs that may stand in a block: {shlex.join(words)}")


def run_ours(program: str, arguments: list[str]) -> None:
    for option in {"--output", "--output_dir"} & set(arguments):
        output = Path(arguments[arguments.index(option) + 1])
        if output.is_dir() and "--dry-run" not in arguments:  # an earlier block's
            shutil.rmtree(output)
    if arguments[0] == "sft":
        arguments = [*arguments, *SHORT_TRAINING]
    if program == "lora-da-bench" and not {"--dry-run", "--list"} & set(arguments):
        arguments = [*arguments, "--dry-run"]  # comparisons take minutes
    arguments = [str(ROOT / word) if word.startswith("configs/") else word for word in arguments]
    result = CliRunner().invoke(APPS[program], arguments)
    assert result.exit_code == 0, (program, arguments, result.output, result.exception)


def check_installation(arguments: list[str]) -> None:
    """A package of a registry, or extras of the package in the clone's folder."""
    for word in arguments:
        if local := re.fullmatch(r"(\.|\./bench)(?:\[(.*)\])?", word):
            project = tomllib.loads((ROOT / local[1] / "pyproject.toml").read_text())["project"]
            extras = set(local[2].split(",")) if local[2] else set()
            assert extras <= project["optional-dependencies"].keys()


def write_file(example: Example) -> None:
    """Read a block in the way of its language; keep it if it begins with a file's name."""
    text = str(example.parsed)
    readers: dict[str, Any] = {"toml": tomllib.loads, "yaml": yaml.safe_load, "json": json.loads}
    readers[example.region.lexemes["arguments"]](text)
    if named := re.match(r"# (\S+\.\w+)\n", text):
        Path(named[1]).write_text(text, encoding="utf-8")


PARSERS: list[Any] = [
    CodeBlockParser("python", run_python),
    CodeBlockParser("sh", run_shell),
    *(CodeBlockParser(language, write_file) for language in ("toml", "yaml", "json")),
    SkipParser(),
]


def examples_in(path: Path) -> Iterator[Example]:
    return Document.parse(str(path), *PARSERS).examples()


@pytest.mark.filterwarnings("default::UserWarning")  # so few and short examples make the library warn
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).with_suffix("").as_posix())
def test_all_blocks_run(path: Path, reader: dict[str, Any]) -> None:
    for example in examples_in(path):
        example.namespace.update({name: value for name, value in reader.items() if name not in example.namespace})
        try:
            example.evaluate()
        except SkipTest:
            continue
        except Exception as error:
            raise AssertionError(f"{path.name}, line {example.line}: {error}") from error


def test_every_block_is_run_or_skipped_with_a_reason() -> None:
    skipped = 0
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        languages = re.findall(r"^```(.*)$", text, re.MULTILINE)[::2]
        examples = list(examples_in(path))
        skips = [example.parsed for example in examples if isinstance(example.parsed, tuple)]
        assert len(examples) - len(skips) == sum(language not in NOT_CODE for language in languages), path
        assert not re.search(r"\n\n {4}\S", re.sub(r"```.*?```", "", text, flags=re.DOTALL)), (
            f"{path}: code without a fence"
        )
        assert all(action == "next" and reason for action, reason in skips), path
        skipped += len(skips)
    assert skipped == SKIPPED

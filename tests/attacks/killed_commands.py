"""Whole commands killed at random moments: every output is whole or absent, and the next run makes it as ever.

The commands run in forks of a process that has imported everything and which must not have computed gradients before:
so this is always run as a program.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks.rounds import main
from command import sft_options
from lora_da.system.locks import LOCK

SECONDS = 120.0  # a command takes one or two
_WRITING = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "shutil.move")
Content = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command as it is typed, and what it writes.

    Attributes:
        words: What is typed, for a folder of outputs and whether this is the run after a kill.
        read: What each output holds, by its name, as far as it is there; fails if one is damaged.
    """

    words: Callable[[Path, bool], list[str]]
    read: Callable[[Path], Content]


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status (negative: by that signal), seconds, steps seen, words on stderr."""

    status: int
    seconds: float
    steps: int
    said: str


# What is given


@functools.cache
def _given() -> Path:
    """A folder with a model and files of data."""
    _import_for("init")
    folder = Path(tempfile.mkdtemp(prefix="killed-commands-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    def make() -> None:
        from folders import sums_file, tiny_model_folder  # here, as they bring torch with them

        tiny_model_folder(folder / "model")
        for name, count in (("data", 40), ("other", 30)):
            sums_file(folder / f"{name}.jsonl", count)
        lines = (folder / "data.jsonl").read_text().splitlines(keepends=True)
        (folder / "test.jsonl").write_text("".join(lines[::6]))

    assert _forked(make, folder, None).status == 0
    return folder


@functools.cache
def _statistics_of(name: str) -> Path:
    """Those of a file of data."""
    words = _init(_given() / f"{name}.jsonl", _given() / name)
    assert _forked(functools.partial(_type, words), _given(), None).status == 0
    return _given() / name / "sums.safetensors"


def _init(data: Path, output: Path) -> list[str]:
    words = ["lora-da", "init", str(data.parent / "model"), "--data", str(data), "--output", str(output / "adapter")]
    return [*words, "--rank", "2", "--examples", "8", "--save-statistics", str(output / "sums.safetensors")]


# The commands


def _words_of_init(output: Path, again: bool) -> list[str]:
    made = (output / "adapter").exists() or (output / "sums.safetensors").exists()
    return [*_init(_given() / "data.jsonl", output), *(["--overwrite"] if made else [])]


def _words_of_merge(output: Path, again: bool) -> list[str]:
    files = [str(_statistics_of(name)) for name in ("data", "other")]
    overwrite = ["--overwrite"] if (output / "sum.safetensors").exists() else []
    return ["lora-da", "merge-statistics", *files, "--output", str(output / "sum.safetensors"), *overwrite]


def _words_of_inspect(output: Path, again: bool) -> list[str]:
    page = ["--page", str(output / "page.html")]  # its own is replaced
    return ["lora-da", "inspect", str(_statistics_of("data")), "--rank", "2", *page]


def _words_of_plan(output: Path, again: bool) -> list[str]:
    return ["lora-da", "plan", str(_given() / "model"), "--tokens", "16", "--examples", "8"]


def _words_of_sft(output: Path, again: bool) -> list[str]:
    from lora_da.workflows.checkpoints import find_whole_checkpoint

    words = sft_options(str(_given() / "model"), str(_given() / "data.jsonl"), output / "run", "--save_steps", 2)
    further = again and find_whole_checkpoint(output / "run") is not None
    return ["lora-da", "sft", *words, *(["--resume_from_checkpoint", "true"] if further else [])]


def _words_of_compare(output: Path, again: bool) -> list[str]:
    folder = _given()
    words = ["--model", folder / "model", "--train", folder / "data.jsonl", "--test", folder / "test.jsonl"]
    words += ["--methods", "lora", "--ranks", "2", "--learning-rates", "1e-2", "--steps", "2", "--seeds", "0"]
    words += ["--fresh-seeds", "1", "--evaluations", "1", "--growth", "0", "--validation-rows", "8", "--no-accuracy"]
    words += ["--no-charge-init", "--device", "cpu", "--results", output]
    return ["lora-da-bench", "compare", *map(str, words)]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _adapter(folder: Path) -> Content:
    from lora_da import load_report

    if not folder.exists():
        return {}
    report = load_report(folder).to_dict() | {"seconds": None, "peak_memory_bytes": None}
    assert (folder / "README.md").read_text().rstrip().endswith("B is not zero.")
    return {folder.name: _weights(folder) + repr(report)}


def _weights(folder: Path) -> str:
    """An adapter as PEFT writes it, whose target modules are a set."""
    config = json.loads((folder / "adapter_config.json").read_text())
    return repr(config | {"target_modules": sorted(config["target_modules"])}) + _digest(
        folder / "adapter_model.safetensors"
    )


def _file(name: str) -> Callable[[Path], Content]:
    return lambda output: {name: _digest(output / name)} if (output / name).exists() else {}


def _read_init(output: Path) -> Content:
    return _adapter(output / "adapter") | _sums("sums.safetensors")(output)


def _sums(name: str) -> Callable[[Path], Content]:
    def read(output: Path) -> Content:
        from lora_da.statistics.storage import identify_file, load_statistics

        path = output / name
        return {name: (load_statistics(path).examples, identify_file(path))} if path.exists() else {}

    return read


def _read_sft(output: Path) -> Content:
    """The start, and the trained adapter, whose configuration says that it is there."""
    run = output / "run"
    if not (run / "adapter_config.json").exists():
        return _adapter(run / "initial_adapter")
    assert all((run / name).is_file() for name in ("tokenizer_config.json", "README.md"))
    return _adapter(run / "initial_adapter") | {"adapter": _weights(run)}


def _read_compare(output: Path) -> Content:
    from lora_da_bench.experiment.record import load_records

    found: Content = {}
    for record in load_records(output / "comparison" / "runs"):
        losses = [(point.step, point.validation_loss, point.test_loss) for point in record.curve]
        found[record.run.name] = repr((record.status, losses, record.items))
    report = output / "comparison" / "report.md"
    if report.exists():
        shown = [line.partition("](")[2].rstrip(")") for line in report.read_text().splitlines() if line[:2] == "!["]
        found["report"] = {name: (report.parent / name).is_file() for name in ("report.html", *shown)}
        assert all(found["report"].values()), found["report"]
    return found


COMMANDS: dict[str, Command] = {
    "init": Command(_words_of_init, _read_init),
    "merge-statistics": Command(_words_of_merge, _sums("sum.safetensors")),
    "inspect": Command(_words_of_inspect, _file("page.html")),
    "plan": Command(_words_of_plan, lambda output: {"anything": 1} if [*output.iterdir()] else {}),
    "sft": Command(_words_of_sft, _read_sft),
    "compare": Command(_words_of_compare, _read_compare),
}


# The attack


@functools.cache
def _undisturbed(name: str) -> tuple[Ended, Content]:
    """How a command ends that is not killed, and what it writes."""
    _import_for(name)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        ended = _forked(functools.partial(_type, COMMANDS[name].words(output, False)), output, None)
        assert ended.status == 0, ended
        assert not _left(output), _left(output)
        return ended, COMMANDS[name].read(output)


def attack(number: int) -> list[str]:
    """Kill one command, by the clock or at one of its steps on the disk; look; run it again; look again."""
    chance = random.Random(number)
    name, how = list(COMMANDS)[number % len(COMMANDS)], chance.choice([signal.SIGKILL, signal.SIGTERM])
    command, (usual, expected) = COMMANDS[name], _undisturbed(name)
    by_clock = not usual.steps or chance.random() < 0.3
    moment = chance.random() * usual.seconds if by_clock else chance.randint(1, usual.steps)
    what = f"{name}, {how.name} {f'after {moment:.2f} s' if by_clock else f'at step {moment} of {usual.steps}'}"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        ended = _forked(functools.partial(_type, command.words(output, False)), output, (how, moment))
        faults = [f"{what}: {fault}" for fault in _judge(ended, how)]
        faults += [f"{what}: {fault}" for fault in _compare(command, output, expected, complete=False)]
        words = command.words(output, True)
        if name == "sft" and (output / "run" / "adapter_config.json").exists():
            words = COMMANDS["plan"].words(output, True)  # the run is finished, and sft says so
        again = _forked(functools.partial(_type, words), output, None)
        if again.status != 0:
            return [*faults, f"{what}: the next run ended with {again.status}: {again.said[-500:]}"]
        faults += [f"{what}, then again: {fault}" for fault in _compare(command, output, expected, complete=True)]
        # Nothing runs in a finished run's folder again; a lock whose owner is gone is free.
        left = [path for path in _left(output) if words[1] != "plan" or Path(path).name != LOCK]
        faults += [f"{what}, then again: {path} is left" for path in left]
    return faults


def _judge(ended: Ended, how: signal.Signals) -> list[str]:
    """What is wrong with how a killed command ended: a signal that comes late finds it finished."""
    told = "stopped; " in ended.said
    well = ended.status in ((0, -how) if how == signal.SIGKILL else (0, 128 + how, -how))
    faults = [] if well else [f"it ended with {ended.status}: {ended.said[-500:]}"]
    faults += ["a traceback"] if "Traceback" in ended.said else []
    return faults if told or ended.status != 128 + signal.SIGTERM else [*faults, "nothing is said"]


def _compare(command: Command, output: Path, expected: Content, *, complete: bool) -> list[str]:
    try:
        found = command.read(output)
    except Exception as error:
        return [f"an output is damaged: {type(error).__name__}: {error}"]
    faults = [f"{part} is not as ever" for part in found if found[part] != expected.get(part)]
    return faults + [f"{part} is not there" for part in expected if complete and part not in found]


def _left(output: Path) -> list[str]:
    """What has the name of something temporary."""
    marks = (".unfinished", ".lock", ".tmp", ".incomplete")
    return [str(path.relative_to(output)) for path in output.rglob("*") if path.name.endswith(marks)]


def _type(words: list[str]) -> None:
    sys.argv = words
    if words[0] == "lora-da":
        from lora_da.cli import main as lora_da

        lora_da()
    else:
        from lora_da_bench.cli.app import main as bench

        bench()


# Processes


@functools.cache
def _import_for(command: str) -> None:
    """Import what a command needs, before it is forked many times."""
    needed = {
        "sft": ["lora_da.workflows.sft.fine_tuning"],
        "compare": ["lora_da_bench.cli.app", "lora_da_bench.compare"],
    }
    for module in ("torch", "folders", "lora_da.cli.app", "lora_da.workflows.init", *needed.get(command, [])):
        importlib.import_module(module)
    importlib.import_module("torch").set_num_threads(1)


def _forked(work: Callable[[], None], folder: Path, kill: tuple[signal.Signals, float | int] | None) -> Ended:
    """Do something in a process of its own, and kill that after some seconds (float) or at a step in a folder (int)."""
    with tempfile.TemporaryDirectory() as name:
        notes, started = Path(name), time.monotonic()
        child = os.fork()
        if child == 0:
            _live(work, folder, notes, kill)
        if kill is not None and isinstance(kill[1], float):
            timer = threading.Timer(kill[1], os.kill, (child, kill[0]))
        else:
            timer = threading.Timer(SECONDS, os.kill, (child, signal.SIGKILL))
        with _running(timer):
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        steps = (notes / "steps").read_text() if (notes / "steps").exists() else "0"
        said = (notes / "stderr").read_text(errors="replace") if (notes / "stderr").exists() else ""
        return Ended(status, time.monotonic() - started, int(steps), said)


@contextmanager
def _running(timer: threading.Timer) -> Iterator[None]:
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _live(work: Callable[[], None], folder: Path, notes: Path, kill: tuple[signal.Signals, float | int] | None) -> None:
    """The process, to its end."""
    status, seen = 1, [0]
    try:
        for number, file in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(notes / file, os.O_WRONLY | os.O_CREAT, 0o600), number)
        step = kill[1] if kill is not None and isinstance(kill[1], int) else None

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            if _is_step(event, arguments, str(folder)):
                seen[0] += 1
                if seen[0] == step and kill is not None:
                    os.kill(os.getpid(), kill[0])

        sys.addaudithook(count)
        try:
            work()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1 if end.code else 0
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
    except BaseException as error:
        print(f"Traceback: {error!r}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        (notes / "steps").write_text(json.dumps(seen[0]))
        os._exit(status)


def _is_step(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    """Whether an audited event changes something in a folder."""
    if event == "open":
        path, mode, flags = arguments
        writes = bool(mode and set(mode) & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return writes and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder)
    return event in _WRITING and any(str(argument).startswith(folder) for argument in arguments)


if __name__ == "__main__":
    main(attack, 20 * len(COMMANDS))

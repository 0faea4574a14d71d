"""``lora-da-bench laboratory``, as a user calls it, with a tiny model and a text made up here."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from folders import tiny_model_folder
from lora_da.system.locks import lock_folder
from lora_da_bench.cli import laboratory as module
from lora_da_bench.cli.app import app
from lora_da_bench.laboratory.runs import load_records
from lora_da_bench.laboratory.settings import RECORDS, SETTINGS, Settings


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["laboratory", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def small(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The common flags, with blocks so short and so few that a run takes a second."""
    words = random.Random(0).choices(["ox", "bee", "owl", "ant"], k=3000)
    (tmp_path / "animals.txt").write_text(" ".join(words))
    monkeypatch.setitem(module._QUICK, "domains", (str(tmp_path / "animals.txt"),))
    monkeypatch.setitem(module._QUICK, "steps", 3)
    few = Settings(batch_size=2, length=16, calibration_blocks=8, selection_blocks=4, test_blocks=4)
    monkeypatch.setattr("lora_da_bench.laboratory.settings.Settings", lambda: few)
    return ["--quick", "--model", folder, "--out", tmp_path / "out"]


def test_quick_ends_with_a_line_of_figures(small: list[object], tmp_path: Path) -> None:
    assert "0 runs are there, 10 are next" in call(*small, "--dry-run")
    assert not (tmp_path / "out").exists()
    output = call(*small)
    there = call(*small, "--dry-run")
    assert "10 runs are there, 0 are next" in there
    assert {"  --learning-rates 0.005,0.01", "  --seeds 1"} < set(there.splitlines())
    assert "  --ranks 4\n" in call(*small, "--seeds", 7, "--report-only")
    figures = dict(part.split("=") for part in output.strip().splitlines()[-1].split())
    assert {"default_frozen", "eva_frozen", "paper_frozen", "random_frozen", "lora_trained"} < figures.keys()
    assert all(3 < float(value) < 8 for value in figures.values())  # nats a byte, untrained
    records = (tmp_path / "out" / RECORDS).read_text()
    assert len(records.splitlines()) == 5 * 2
    assert (tmp_path / "out" / SETTINGS).is_file()

    assert call(*small).strip().splitlines()[-1] == output.strip().splitlines()[-1]
    assert (tmp_path / "out" / RECORDS).read_text() == records
    assert "versions of the code" not in call(*small, "--report-only")
    first, *others = records.splitlines(keepends=True)
    first = re.sub('"code": "[^"]*"', '"code": "another"', first)
    (tmp_path / "out" / RECORDS).write_text("".join([first, *others]))
    assert "made by 2 versions of the code" in call(*small, "--report-only")


def test_more_is_added_and_the_same_runs_give_the_same(small: list[object], tmp_path: Path) -> None:
    call(*small, "--methods", "random", "--learning-rates", 1e-2)
    whole = (tmp_path / "out" / RECORDS).read_text().splitlines(keepends=True)
    (tmp_path / "out" / RECORDS).write_text(whole[0])
    call(*small, "--methods", "random,whitened-1", "--learning-rates", "1e-2", "--ranks", "2,4", "--train-a")
    records = load_records(tmp_path / "out" / RECORDS)
    assert len(records) == 2 * (2 * 2 + 1)
    assert {run.rank for run in records} == {2, 4}
    again = [line for line in (tmp_path / "out" / RECORDS).read_text().splitlines() if '"lora"' in line]
    before = [line for line in whole if '"lora"' in line]
    losses = [re.findall(r'"test_losses": (\[.*?\])', line) for line in before + again if '"rank": 4' in line]
    assert len(losses) == 2
    assert losses[0] == losses[1]


def test_texts_are_classified(small: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same runs with the same head, whatever else there is, and a new head is no other model."""
    draw = random.Random(1)
    texts = [" ".join(draw.choices(["ox", "bee", "owl"], k=draw.randint(2, 4))) for _ in range(300)]
    (tmp_path / "sst2").mkdir()
    lines = ["sentence\tlabel", *(f"{text}\t{int(text.endswith('owl'))}" for text in texts)]
    (tmp_path / "sst2" / "train.tsv").write_text("\n".join(lines))
    monkeypatch.setenv("LORA_DA_DATA", str(tmp_path))
    common = [*small, "--domains", "sst2", "--learning-rates", 1e-2]
    output = call(*common, "--methods", "eva,ekfac-1")
    figures = dict(part.split("=") for part in output.strip().splitlines()[-1].split())
    # The classes are told by the last letter, which a head reads off; ln 2 = 0.69 by guessing.
    assert all(0 < float(figures[name]) < 0.6 for name in ("eva_frozen", "ekfac_1_frozen", "lora_trained")), figures
    first = (tmp_path / "out" / RECORDS).read_text().splitlines(keepends=True)
    (tmp_path / "out" / RECORDS).write_text(first[0])
    call(*common, "--methods", "eva,ekfac-1")
    again = (tmp_path / "out" / RECORDS).read_text().splitlines()
    losses = [[re.findall(r'"test_losses": (\[.*?\])', line) for line in lines] for lines in (first, again)]
    assert losses[0] == losses[1]
    with pytest.raises(ValueError, match="text and classes"):
        call(*small, "--domains", f"sst2,{tmp_path / 'animals.txt'}")


def test_what_cannot_be_done_is_said(small: list[object]) -> None:
    with pytest.raises(ValueError, match="the method 'evva' is unknown"):
        call(*small, "--methods", "evva")
    with pytest.raises(ValueError, match="'lora' is always there"):
        call(*small, "--methods", "lora")
    with pytest.raises(ValueError, match="seeds must be at least one value, each once"):
        call(*small, "--seeds", "1,1")
    call(*small, "--methods", "random", "--learning-rates", 1e-2)
    with pytest.raises(ValueError, match="runs of other settings: steps"):
        call(*small, "--steps", 4)


def test_the_methods_are_explained() -> None:
    assert re.search(r"^eva +principal components of the inputs", call("--list"), re.MULTILINE)


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1e-3"])
def test_rates_that_are_none_are_refused(small: list[object], rate: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="learning-rates must be finite numbers above zero"):
        call(*small, f"--learning-rates={rate},1e-2")
    assert not (tmp_path / "out").exists()


def test_one_at_a_time_and_never_over_an_input(small: list[object], folder: Path, tmp_path: Path) -> None:
    with lock_folder(tmp_path / "out"), pytest.raises(BlockingIOError, match="out is in use by process"):
        call(*small)
    with pytest.raises(ValueError, match=r"--out .* lies within the model"):
        call(*small, "--out", folder / "out")

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from lora_da import InitializationReport, LoraDAConfig, load_report
from report.test_layers import layer


def _report() -> InitializationReport:
    names = [f"model.layers.{block}.{kind}" for block in range(2) for kind in ("mlp.up_proj", "self_attn.q_proj")]
    return InitializationReport(
        layers={name: dataclasses.replace(layer(), tokens=10 * index + 10) for index, name in enumerate(names)},
        kept_default={"model.embed": "is no linear layer (Embedding)"},
        examples=7,
        population_size=100,
        loss_before=3.25,
        loss_after=3.125,
        seconds={"statistics": 1.25, "solve": 0.5},
        peak_memory_bytes=3 * 2**29,
        batch_dependent=False,
        notices=("look here",),
        config=LoraDAConfig.paper(),
    )


def test_a_round_trip_loses_nothing(tmp_path: Path) -> None:
    report = _report()
    path = report.save(tmp_path / "new", provenance={"data": "fingerprint"})
    assert path == tmp_path / "new" / "lora_da.json"
    assert load_report(str(tmp_path / "new")) == report
    content = json.loads(path.read_text())
    assert content["provenance"] == {"data": "fingerprint"}
    assert content["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    unmeasured = dataclasses.replace(report, loss_before=None, loss_after=None, population_size=None)
    unmeasured.save(tmp_path / "new", overwrite=True)
    assert load_report(tmp_path / "new") == unmeasured


def test_an_existing_report_is_kept_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "lora_da.json").write_text("old")
    with pytest.raises(FileExistsError, match=r"lora_da\.json exists already"):
        _report().save(tmp_path)
    assert (tmp_path / "lora_da.json").read_text() == "old"


def test_what_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        _report().save(tmp_path, provenance={"object": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"report": 3}', '{"report": {"config": {}}}'])
def test_foreign_files_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "lora_da.json").write_text(content)
    with pytest.raises(ValueError, match=r"lora_da\.json is (damaged|no report of lora-da)"):
        load_report(tmp_path)


def test_a_missing_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no lora_da\.json: it is no adapter made by lora-da"):
        load_report(tmp_path)


def test_printing() -> None:
    text = str(_report())
    lines = text.splitlines()
    assert lines[0] == "LoRA-DA: 4 layers initialised from 7 examples"
    assert [line.split()[0] for line in lines[2:4]] == ["mlp.up_proj", "self_attn.q_proj"]
    assert "calibration loss per example (nats): 3.2500 before, 3.1250 after" in lines
    assert "statistics 1.2 s, solve 0.5 s; peak memory 1.50 GiB" in lines
    assert lines[-1] == "note: look here"
    assert not any("first step" in line for line in lines)
    assert "first step: 0.0312 of the whole one" in str(dataclasses.replace(_report(), step_length=1 / 32))
    assert "calibration loss" not in str(dataclasses.replace(_report(), loss_after=None))
    assert "peak" not in str(dataclasses.replace(_report(), peak_memory_bytes=None))


def test_plots_are_images_and_replace_nothing_unasked(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plots" / "spectra.png"
    _report().plot(path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    with pytest.raises(FileExistsError, match="exists already"):
        _report().plot(path)
    _report().plot(path, overwrite=True)
    assert list(path.parent.iterdir()) == [path]

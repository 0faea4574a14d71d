from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import lora_da.report.initialization
from lora_da import InitializationReport, LayerInit, LoraDAConfig, load_report
from lora_da.report.initialization import LayerReport, source_fingerprint, versions
from lora_da.report.table import HEADER, kind_of, layer_rows

INIT = LayerInit(
    A=torch.eye(2, 5, dtype=torch.float64),
    delta_A=torch.ones(3, 2, dtype=torch.float64),
    eigenvalues=torch.tensor([-4.0, 0.0, 0.5], dtype=torch.float64),
    captured_energy=torch.tensor([0.6, 0.9], dtype=torch.float64),
    delta_norm=2.5,
    activation_covariance=torch.eye(2, dtype=torch.float64),
    input_mean_square=1.5,
    input_damping=0.1,
    input_raised=1,
    output_damping=0.2,
    output_raised=2,
    residual=1e-12,
)


def _layer(tokens: int = 20) -> LayerReport:
    return LayerReport.of(INIT, tokens=tokens, scaling=2.0)


def _report() -> InitializationReport:
    names = [f"model.layers.{block}.{kind}" for block in range(2) for kind in ("mlp.up_proj", "self_attn.q_proj")]
    return InitializationReport(
        layers={name: _layer(10 * index + 10) for index, name in enumerate(names)},
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


def test_numbers_of_a_layer() -> None:
    layer = _layer()
    assert (layer.rank, layer.scaling, layer.tokens) == (2, 2.0, 20)
    assert layer.tokens_per_input_dimension == 4.0
    assert layer.eigenvalues == (-4.0, 0.0, 0.5)
    assert layer.negative_eigenvalues == 1
    assert layer.captured_energy == (0.6, 0.9)
    assert layer.damping_raised == 3
    assert (layer.input_damping, layer.output_damping, layer.delta_norm) == (0.1, 0.2, 2.5)


def test_the_next_eigenvalue_is_not_counted_as_negative() -> None:
    init = dataclasses.replace(INIT, eigenvalues=torch.tensor([-4.0, -3.0, -2.0]))
    assert LayerReport.of(init, tokens=1, scaling=1.0).negative_eigenvalues == 2


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
    with pytest.raises(ValueError, match=r"lora_da\.json is no report of lora-da"):
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
    assert "calibration loss" not in str(dataclasses.replace(_report(), loss_after=None))
    assert "peak" not in str(dataclasses.replace(_report(), peak_memory_bytes=None))


def test_layers_of_a_kind_are_taken_together() -> None:
    layers = {"h.0.attn": _layer(5), "h.1.attn": dataclasses.replace(_layer(15), rank=3), "head": _layer()}
    rows = layer_rows(layers)
    assert rows[0] == HEADER
    assert rows[1] == ("attn", "2", "2–3", "2", "90.0%", "2/5", "2.5", "0.1")
    assert rows[2][:3] == ("head", "1", "2")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.layers.11.mlp.up_proj", "mlp.up_proj"),
        ("h.0.attn", "attn"),
        ("0.attn", "attn"),
        ("head", "head"),
        ("encoder.block.2.layer.0.SelfAttention.q", "SelfAttention.q"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_plots_are_images_and_replace_nothing_unasked(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plots" / "spectra.png"
    _report().plot(path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    with pytest.raises(FileExistsError, match="exists already"):
        _report().plot(path)
    _report().plot(path, overwrite=True)
    assert list(path.parent.iterdir()) == [path]


def test_versions_of_what_is_installed() -> None:
    assert set(versions(["torch", "no-such-package"])) == {"python", "torch"}


def test_fingerprint_of_the_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lora_da.report.initialization, "__file__", str(tmp_path / "report.py"))

    def fingerprint(**sources: str) -> str:
        for name, text in sources.items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return source_fingerprint.__wrapped__()

    first = fingerprint(a="x = 1\n", b="")
    assert len(first) == 12
    assert first == fingerprint(a="x = 1\n")
    assert first != fingerprint(a="x = 2\n")

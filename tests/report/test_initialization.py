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
    with pytest.raises(FileNotFoundError, match=r"has no lora_da\.json: no report was saved there, which report\.save"):
        load_report(tmp_path)


def test_printing() -> None:
    report = dataclasses.replace(_report(), label_tokens=2.5)
    text = str(report)
    lines = text.splitlines()
    assert lines[0] == "LoRA-DA: 4 layers initialised from 7 examples"
    assert lines[2].startswith("Enough data: ")
    assert "Loss per token: 1.3000 before, 1.2500 with the adapter" in text
    assert "statistics 1.2 s, solve 0.5 s; peak memory 1.50 GiB" in lines
    assert lines[-1] == "note: look here"
    kinds = [line.split()[0] for line in lines if line.startswith("  ") and line.endswith("–")]
    assert kinds == ["mlp.up_proj", "self_attn.q_proj"]
    assert "peak" not in str(dataclasses.replace(report, peak_memory_bytes=None))


def test_nothing_printed_is_wider_than_a_terminal() -> None:
    report = dataclasses.replace(_report(), notices=("word " * 40,), config=LoraDAConfig())
    report.layers["a.0." + "very_long_name." * 4 + "end"] = dataclasses.replace(layer(), eigenvalues=(-1e5, -1e4))
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    assert "name.end " in text


def test_what_a_notebook_and_a_prompt_show_is_short() -> None:
    report = _report()
    assert len(repr(report)) < 250
    assert len(repr(next(iter(report.layers.values())))) < 100
    html = report._repr_html_()
    assert html.count("<svg") == 2
    assert "mlp.up_proj" in html


def test_a_dict_is_plain() -> None:
    found = _report().to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["layers"]["model.layers.0.mlp.up_proj"]["eigenvalues"] == [-1.0, 1.0]


def test_a_page_replaces_nothing_unasked(tmp_path: Path) -> None:
    _report().write_page(tmp_path / "page.html")
    with pytest.raises(FileExistsError, match="exists already"):
        _report().write_page(tmp_path / "page.html")
    _report().write_page(tmp_path / "page.html", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_ranks_are_not_suggested_from_eigenvalues_that_are_no_losses() -> None:
    with pytest.raises(ValueError, match="metric of the parameters"):
        _report().suggested_rank_pattern(2)

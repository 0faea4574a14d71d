from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_da_bench.analysis.summary import summarise_records
from lora_da_bench.experiment.files import RUNS
from lora_da_bench.experiment.fixed_description import load_fixed_description
from lora_da_bench.experiment.record import RunRecord, load_records
from lora_da_bench.methods.registry import get_method
from lora_da_bench.report import looks
from lora_da_bench.report.writing import has_report, write_report
from simulated_records import description, simulated

RESULTS = Path(__file__).parents[3] / "results"
COMMITTED = ("gsm8k-smollm2-r8", "gsm8k-smollm2-4bit-r8", "gsm8k-smollm2-answers-r8", "sst2-minilm-r8")


@pytest.fixture(autouse=True)
def quick_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "render_svg", lambda figure: b"<svg/>")


def report(folder: Path, records: list[RunRecord], **changes: Any) -> str:
    write_report(records, description(**changes), folder, {"lora": "Plain LoRA."})
    return (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMITTED)
def test_a_report_of_all_runs_is_told_from_an_older_one(name: str) -> None:
    records = load_records(RESULTS / name / RUNS)
    assert has_report(records, RESULTS / name)
    last = max(records, key=lambda record: str(record.about["finished"]))
    assert not has_report([record for record in records if record is not last], RESULTS / name)
    later = replace(last, about=last.about | {"finished": "2100-01-01T00:00:00"})
    assert not has_report([later if record is last else record for record in records], RESULTS / name)
    assert not has_report(records, RESULTS)


def test_no_winner_while_a_method_could_not_be_compared(tmp_path: Path) -> None:
    records = [
        replace(found, status="failed", error="RuntimeError: out | of <memory>\nat last", curve=[])
        if (found.run.method, found.run.stage, found.run.seed) == ("pissa", "final", 101)
        else found
        for found in simulated(description(), {"lora-da": 0.05})
    ]
    text = report(tmp_path, records)
    assert "lora-da is better than every other method that was compared, but pissa could not" in text
    assert "lora-da is better than every other method." not in text
    assert "final-pissa-r8-lr0.001-seed101 | failed | RuntimeError: out \\| of \\<memory> at last" in text


def test_low_accuracy_gives_no_verdict_on_accuracy(tmp_path: Path) -> None:
    text = report(tmp_path, simulated(description(), {"lora-da": 0.2}, accuracy=0.02))
    assert "conclusions rest on the test loss alone" in text.split("\n## ")[0]
    assert "accuracy: lora-da" not in text


@pytest.mark.parametrize("stages", [(), ("sweep",), ("final",), ("sweep", "final")])
def test_incomplete_records_are_reported_with_what_is_missing(tmp_path: Path, stages: tuple[str, ...]) -> None:
    records = [found for found in simulated(description()) if found.run.stage in stages and found.run.seed != 102]
    text = report(tmp_path, records)
    missing = "the final runs with seeds" if "sweep" in stages else "9 of 9 runs of the sweep are missing"
    assert f"Rank 8: lora: {missing}" in text
    assert "better than every other method." not in text


def test_an_optimum_at_the_edge_is_flagged(tmp_path: Path) -> None:
    text = report(tmp_path, simulated(description(), best_rate=1e-2))
    assert "Rank 8: lora-da is best at the upper edge of the grid" in text
    assert re.search(r"\*\*[\d.]+ \(upper edge\)\*\*", text)


def test_differences_of_all_pairs_once_with_lora_second(tmp_path: Path) -> None:
    methods = ["pissa", "lora-da", "lora"]
    records = simulated(description(methods=methods), {"lora-da": 0.05, "lora": 0.01})
    text = report(tmp_path, records, methods=methods)
    table = text.split("### Differences of test loss")[1].split("\n#")[0]
    pairs = re.findall(r"^\| (\S+) − (\S+) \|", table, re.MULTILINE)
    assert pairs == [("pissa", "lora"), ("lora-da", "lora"), ("lora-da", "pissa")]
    assert re.search(r"lora-da − pissa \| \*\*-0\.0", table)


def test_the_untouched_base_has_a_row(tmp_path: Path) -> None:
    records = simulated(description())
    assert "untouched base (LoRA" not in report(tmp_path, records)
    for index, found in enumerate(records):
        if found.run.stage == "final":
            records[index] = replace(found, curve=[replace(found.curve[0], test_loss=2.34567), *found.curve[1:]])
    table = report(tmp_path, records).split("### Results on the test split")[1].split("\n\n")[1].splitlines()
    read_cells = dict(zip(table[0].split("|"), table[2].split("|"), strict=True))
    assert read_cells[" method "] == " untouched base (LoRA at step 0) "
    assert read_cells[" test loss "] == " 2.3457 "
    assert read_cells[" runs "] == " – "


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    protocol = {"learning_rates": [1e-4, 1e-3, 1e-2], "steps": 20, "seeds": [0], "fresh_seeds": [100]}
    text = report(tmp_path, simulated(description(protocol=protocol), {"lora-da": 0.5}), protocol=protocol)
    assert "Rank 8, test loss: nothing can be shown" in text
    assert "not estimable" in text
    assert "Fewer than three fresh seeds are reported." in text


def test_numbers_are_those_of_the_summary(tmp_path: Path) -> None:
    experiment = description()
    records = simulated(experiment, {"lora-da": 0.05}, accuracy=0.4)
    text = report(tmp_path, records)
    (rank,) = summarise_records(records, experiment).ranks
    for method in rank.methods:
        assert method.test_loss is not None
        assert method.accuracy is not None
        loss, accuracy = method.test_loss, method.accuracy
        assert f"| {loss.mean:.4f} [{loss.low:.4f}, {loss.high:.4f}] |" in text
        assert f"| {accuracy.mean:.1%}".replace("%", " %") in text
        for point in method.grid:
            assert f"{point.loss:.4f}" in text
    difference = rank.loss.comparison.differences["lora-da", "lora"]
    assert (
        f"| lora-da − lora | **{difference.mean:+.4f}** | **[{difference.low:+.4f}, {difference.high:+.4f}]** |"
        f" **{difference.p_value:.3f}** | {difference.detectable:.4f} | {difference.seed_share:.0%} |"
    ) in text


def test_the_html_stands_alone_and_escapes_names(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    methods = ["lora", name]
    files = write_report(simulated(description(methods=methods)), description(methods=methods), tmp_path, {})
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(?:src|href)=\"(?!data:image/svg\+xml;base64,|#section-)", html)
    assert not re.search(r"url\(|@import|<link", html)
    assert html.count("<img") == 4
    assert "<script" not in (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\<script", "")
    assert {path.name for path in files} == {path.name for path in tmp_path.iterdir()}


def test_a_report_is_replaced_and_the_same_for_the_same_records(tmp_path: Path) -> None:
    first = report(tmp_path, [])
    records = simulated(description(ranks=[2, 8]))
    second = report(tmp_path, records, ranks=[2, 8])
    assert first != second == report(tmp_path, records, ranks=[2, 8])
    for image in re.findall(r"\]\((.+\.svg)\)", second):
        assert (tmp_path / image).is_file()
    assert "ranks.svg" in second


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_comparisons_render_as_they_did(name: str, tmp_path: Path) -> None:
    folder = RESULTS / name
    experiment, records = load_fixed_description(folder), load_records(folder / RUNS)
    assert experiment is not None
    assert len(records) > 3
    methods = {method: get_method(method).description for method in experiment.methods}
    write_report(records, experiment, tmp_path, methods)
    assert (tmp_path / "report.md").read_text() == (folder / "report.md").read_text()

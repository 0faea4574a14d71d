from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_da_bench.analysis.summary import summarise_records
from lora_da_bench.report import looks, plots
from simulated_records import description, simulated


def test_methods_look_the_same_in_all_plots() -> None:
    experiment = description(ranks=[2, 8])
    summary = summarise_records(simulated(experiment), experiment)
    of_rank = (plots.plot_learning_rates, plots.plot_losses, plots.plot_pareto)
    drawn = [*(plot(summary.ranks[0]) for plot in of_rank), plots.plot_ranks(summary)]
    colours = []
    for figure in drawn:
        axes: Any = figure.axes[0]
        handles, labels = axes.get_legend_handles_labels()
        assert labels == list(experiment.methods)
        colours.append([(handle[0] if isinstance(handle, tuple) else handle).get_color() for handle in handles])
    assert all(entry == colours[0] for entry in colours)
    assert len(set(colours[0])) == 4


def test_curves_are_drawn_where_they_are() -> None:
    experiment = description()
    (rank,) = summarise_records(simulated(experiment), experiment).ranks
    line: Any = plots.plot_losses(rank).axes[0].get_lines()[0]
    assert list(line.get_xdata()) == [0, 10, 20]
    assert list(line.get_ydata()) == [point.loss for point in rank.methods[0].curve]


def test_runs_beyond_the_edge_are_named_there() -> None:
    experiment = description()
    records = [
        replace(found, status="diverged", curve=[]) if found.run.learning_rate == 1e-2 else found
        for found in simulated(experiment)
    ]
    (rank,) = summarise_records(records, experiment).ranks
    figure = plots.plot_learning_rates(rank)
    named: list[Any] = [text for text in figure.axes[0].texts if text.get_text() == "× diverged"]
    assert [text.xy[0] for text in named] == [1e-2] * 4
    assert len({text.get_position() for text in named}) == 4  # one below the other


def test_differences_are_drawn_with_their_intervals() -> None:
    experiment = description()
    (rank,) = summarise_records(simulated(experiment, {"lora-da": 0.05}), experiment).ranks
    axes: Any = plots.plot_differences(rank).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pissa", "lora-one", "lora-da"]
    bars = [container.lines for container in axes.containers]
    for (line, _, (bar,)), method in zip(bars, ("pissa", "lora-one", "lora-da"), strict=True):
        difference = rank.loss.comparison.differences[method, "lora"]
        assert line.get_xdata()[0] == difference.mean
        assert [point[0] for point in bar.get_segments()[0]] == pytest.approx([difference.low, difference.high])


def test_the_same_figures_are_the_same_svg() -> None:
    experiment = description()
    (rank,) = summarise_records(simulated(experiment), experiment).ranks
    first, second = (looks.render_svg(plots.plot_learning_rates(rank)) for _ in range(2))
    assert first == second
    assert b"<svg" in first
    assert b"prefers-color-scheme: dark" in first
    assert looks.INK.encode() not in first


def test_many_methods_stay_apart() -> None:
    chosen = looks.choose_styles([*map(str, range(24)), "lora", "lora-da", "lora-da+frozen-a", "eva"])
    assert len({(look["color"], look["linestyle"]) for look in chosen.values()}) == 28


def test_a_method_has_its_colour_in_every_company() -> None:
    first, second = looks.choose_styles(["lora", "pissa", "lora-da"]), looks.choose_styles(["eva", "lora-da", "x"])
    assert first["lora-da"]["color"] == second["lora-da"]["color"]
    assert first["pissa"]["color"] != second["x"]["color"] != first["lora-da"]["color"]


@pytest.mark.parametrize("accuracy", [None, 0.03, 0.5])
def test_quality_is_accuracy_where_it_can_be_relied_on(accuracy: float | None) -> None:
    experiment = description()
    (rank,) = summarise_records(simulated(experiment, accuracy=accuracy), experiment).ranks
    assert plots.plot_pareto(rank).axes[0].get_ylabel().startswith("accuracy" if accuracy == 0.5 else "test loss")

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_da_bench.analysis.summary import summarise_records
from lora_da_bench.report import plots
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


def test_diverged_runs_are_crosses_at_the_edge() -> None:
    experiment = description()
    records = [
        replace(found, status="diverged", curve=[]) if found.run.learning_rate == 1e-2 else found
        for found in simulated(experiment)
    ]
    (rank,) = summarise_records(records, experiment).ranks
    figure = plots.plot_learning_rates(rank)
    crosses: list[Any] = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[1e-2]] * 4


def test_the_same_figures_are_the_same_svg() -> None:
    experiment = description()
    (rank,) = summarise_records(simulated(experiment), experiment).ranks
    first, second = (plots.render_svg(plots.plot_learning_rates(rank)) for _ in range(2))
    assert first == second
    assert b"<svg" in first


def test_many_methods_stay_apart() -> None:
    looks = plots.choose_styles([str(index) for index in range(28)])
    assert len({tuple(look.values()) for look in looks.values()}) == 28


@pytest.mark.parametrize("accuracy", [None, 0.03, 0.5])
def test_quality_is_accuracy_where_it_can_be_relied_on(accuracy: float | None) -> None:
    experiment = description()
    (rank,) = summarise_records(simulated(experiment, accuracy=accuracy), experiment).ranks
    assert plots.plot_pareto(rank).axes[0].get_ylabel().startswith("accuracy" if accuracy == 0.5 else "test loss")

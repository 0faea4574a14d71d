from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lora_da.report.plots import new_figure, plot_rates, save_figure


def test_losses_are_drawn_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("lora_da.report.plots.save_figure", lambda figure, *_, **__: drawn.append(figure))
    plot_rates({"LoRA": {1e-3: 2.0, 1e-2: 1.0}, "LoRA-DA": {1e-3: 1.9, 1e-2: 0.9}}, 2.5, tmp_path / "x.png")
    lines = {line.get_label(): line for line in drawn[0].axes[0].get_lines()}
    assert list(lines["LoRA"].get_xdata()) == [1e-3, 1e-2]
    assert list(lines["LoRA-DA"].get_ydata()) == [1.9, 0.9]
    assert set(lines["base model"].get_ydata()) == {2.5}


def test_figures_are_not_overwritten(tmp_path: Path) -> None:
    figure, _ = new_figure(1)
    save_figure(figure, tmp_path / "x.png")
    with pytest.raises(FileExistsError):
        save_figure(figure, tmp_path / "x.png")
    save_figure(figure, tmp_path / "x.png", overwrite=True)


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[cli\]"):
        new_figure(1)

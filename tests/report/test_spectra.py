from __future__ import annotations

import dataclasses
import re

import pytest

from lora_da.report.spectra import draw_spectra
from report.test_layers import layer


def test_curves_lie_where_they_should_beside_the_noise() -> None:
    of_noise = dataclasses.replace(layer(), noise_ratios=(10.0, 1.0, 0.1))
    (panel,) = draw_spectra({"h.0.q": of_noise, "h.1.q": of_noise})
    heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', panel)]
    (edge,) = re.findall(r'y1="([\d.]+)"[^>]* class="edge"', panel)
    assert heights[1] == pytest.approx(float(edge), abs=0.01)
    assert heights[2] - heights[1] == pytest.approx(heights[1] - heights[0], abs=0.03)  # a decade each
    assert 'aria-label="q: median of 2 layers, 1 of 3 directions above the noise edge' in panel


def test_other_metrics_and_earlier_reports_have_no_edge() -> None:
    (panel,) = draw_spectra({"q": layer()})
    assert 'class="edge"' not in panel
    assert "1 of 2 eigenvalues negative" in panel

from __future__ import annotations

import re

import pytest

from lora_da.report.heat_map import draw_heat_map


def cells(picture: str) -> dict[str, float]:
    """What each cell says, and how dark it is."""
    found = re.findall(r'fill-opacity="([\d.]+)" class="heat"><title>([^<]+)</title>', picture)
    return {told: float(shade) for shade, told in found}


def test_cells_are_as_dark_as_their_values_are_high() -> None:
    picture = draw_heat_map({"h.0.q": 0.0, "h.1.q": 0.5, "h.0.up": 1.0}, "energy", ".0%")
    assert cells(picture) == {"h.0.q: 0%": 0.08, "h.1.q: 50%": pytest.approx(0.54), "h.0.up: 100%": 1.0}
    assert 'aria-label="energy by depth (across) and kind of layer (down): 0% to 100%"' in picture


def test_layers_of_one_place_share_a_cell_and_stacks_have_their_own() -> None:
    experts = {f"h.0.experts.{index}.w": value for index, value in enumerate((1.0, 2.0, 6.0))}
    stacks = {"encoder.block.0.q": 1.0, "decoder.block.0.q": 3.0, "head": 4.0}
    picture = draw_heat_map(experts | stacks, "x", "g")
    assert "h.0.experts.0.w and 2 more: 2 (median)" in cells(picture)
    assert all(f">{row}</text>" in picture for row in ("encoder.block: q", "decoder.block: q", "head", "w"))


def test_low_cells_are_crossed_out_and_equal_ones_are_no_error() -> None:
    assert draw_heat_map({"a": 0.5, "b": 2.0}, "x", "g", crossed_below=1).count('class="mark"') == 1
    assert cells(draw_heat_map({"a": 2.0}, "x", "g")) == {"a: 2": 0.54}

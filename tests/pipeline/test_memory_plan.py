from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_da import CollectionConfig
from lora_da.pipeline.memory_limits import MemoryLimits
from lora_da.pipeline.memory_plan import MemoryPlan, plan_memory, sums_bytes

DIAGONAL, FULL = CollectionConfig(), CollectionConfig(output_factor="full")
# Two blocks of q and k, which share their input, and o.
SHAPES = {f"{block}.{name}": (6 if name == "q" else 2, 4) for block in (0, 1) for name in ("q", "k", "o")}
GROUPS = {name: name.replace("k", "q") for name in SHAPES}
ONE_DEVICE = dict.fromkeys(SHAPES, "0")
# Float32: q and k 4·4 + 6·4 + 6 + 2·4 + 2, o 4·4 + 2·4 + 2 entries.
QK, OUT = 4 * 56, 4 * 26
HALVES = 2 * 4 * (6 * 4 + 2 * 4 + 2 * 4)  # of so few layers, the gradients of all


def plan(device: int, host: int | None = None, **options: object) -> MemoryPlan:
    limits = MemoryLimits({"0": device}, host)
    return plan_memory(SHAPES, GROUPS, ONE_DEVICE, limits, DIAGONAL, **options)  # type: ignore[arg-type]


def test_sizes_by_hand() -> None:
    assert sums_bytes([(6, 4), (2, 4)], DIAGONAL) == QK
    assert sums_bytes([(2, 4)], DIAGONAL) == OUT
    assert sums_bytes([(2, 4)], FULL) == 4 * (16 + 8 + 4)
    assert sums_bytes([(2, 4)], DIAGONAL, itemsize=8) == 2 * OUT
    assert sums_bytes([(2, 4)], DIAGONAL, compensated=True) == OUT * 6 // 4  # bfloat16 beside float32
    assert sums_bytes([(2, 4)], DIAGONAL, compensated=True, itemsize=8) == 2 * OUT


def test_all_beside_the_model_where_it_fits() -> None:
    everything = 2 * (QK + OUT)
    assert plan(everything, 10**9) == MemoryPlan("device", (tuple(SHAPES),), (everything,))
    on_host = MemoryPlan("host", (tuple(SHAPES),), (everything + HALVES,), tuple(SHAPES))
    assert plan(everything - 1, 10**9) == on_host


def test_halves_are_kept_where_they_cost_no_pass() -> None:
    everything = 2 * (QK + OUT)
    assert plan(everything + HALVES - 1, 10**9).halved == ()  # they would have to go to the host
    assert plan(everything + HALVES) == MemoryPlan("device", (tuple(SHAPES),), (everything + HALVES,), tuple(SHAPES))
    assert plan(everything - 1).halved == tuple(SHAPES)
    assert plan(QK).halved == ()


def test_in_parts_where_it_does_not() -> None:
    found = plan(QK + OUT)
    assert found.place == "device"
    assert found.passes == (("0.q", "0.k", "0.o"), ("1.q", "1.k", "1.o"))
    assert found.bytes == (QK + OUT, QK + OUT)
    assert plan(QK).passes == (("0.q", "0.k"), ("0.o",), ("1.q", "1.k"), ("1.o",))


def test_fewest_passes_decide_between_device_and_host() -> None:
    assert plan(QK, QK + OUT).place == "host"
    assert len(plan(QK, QK + OUT).passes) == 2
    assert plan(QK + OUT, QK).place == "device"
    assert plan(QK + OUT, QK + OUT).place == "device"


def test_carries_need_room_too() -> None:
    assert len(plan(2 * (QK + OUT)).passes) == 1
    assert len(plan(2 * (QK + OUT), compensated=True).passes) == 2


def test_each_device_has_its_own_limit() -> None:
    devices = {name: name[0] for name in SHAPES}
    limits = MemoryLimits({"0": QK + OUT, "1": QK + OUT}, None)
    assert plan_memory(SHAPES, GROUPS, devices, limits, DIAGONAL).passes == (tuple(SHAPES),)
    limits = MemoryLimits({"0": QK + OUT, "1": QK}, None)
    assert len(plan_memory(SHAPES, GROUPS, devices, limits, DIAGONAL).passes) == 2


def test_too_little_for_one_layer_says_which_and_what_would_help() -> None:
    with pytest.raises(
        ValueError, match=r"0\.q and those that share its input \(2 layers\) take .* raise the memory b"
    ):
        plan(QK - 1)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.booleans()), min_size=1, max_size=12), st.data())
def test_every_layer_once_within_the_limit(layers: list[tuple[int, int, bool]], data: st.DataObject) -> None:
    shapes: dict[str, tuple[int, int]] = {}
    groups: dict[str, str] = {}
    for number, (d_out, d_in, shares) in enumerate(layers):
        previous = str(number - 1)
        joins = shares and previous in shapes and shapes[previous][1] == d_in
        shapes[str(number)] = d_out, d_in
        groups[str(number)] = groups[previous] if joins else str(number)
    by_group = {group: [shapes[name] for name in shapes if groups[name] == group] for group in groups.values()}
    least = max(sums_bytes(members, DIAGONAL) for members in by_group.values())
    limit = data.draw(st.integers(least, 4 * least))
    found = plan_memory(shapes, groups, dict.fromkeys(shapes, "0"), MemoryLimits({"0": limit}, None), DIAGONAL)
    assert [name for names in found.passes for name in names] == list(shapes)
    for names, size in zip(found.passes, found.bytes, strict=True):
        inside = {groups[name] for name in names}
        assert all(groups[name] not in inside for name in shapes if name not in names)  # no group is torn apart
        halves = sum(4 * shapes[name][0] * shapes[name][1] for name in names if name in found.halved)
        assert size == halves + sum(sums_bytes(by_group[group], DIAGONAL) for group in inside) <= limit


def test_words() -> None:
    assert str(plan(QK + OUT)) == "2 passes over the data, with at most 0.3 KiB of sums beside the model"

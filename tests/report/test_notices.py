from __future__ import annotations

import dataclasses

from lora_da.report.notices import list_notices, list_precision_notices
from report.test_layers import layer


def test_nothing_to_say() -> None:
    assert list_notices({"a": layer()}, {}, 2.0, 1.9) == []
    assert list_notices({"a": layer()}, {}, 2.0, None) == []


def test_each_notice_names_what_is_wrong() -> None:
    layers = {"a": layer(tokens=0.25), "b": dataclasses.replace(layer(), damping_raised=2)}
    kept, few, raised, rose = list_notices(layers, {"c": "is no linear layer"}, 2.0, 2.5)
    assert "1 layer(s) keep PEFT's default init: c is no linear layer" in kept
    assert "1 layer(s) saw fewer tokens" in few
    assert "0.25" in few
    assert "first in b" in raised
    assert "rose from 2.0000 to 2.5000 per example" in rose
    assert "rose from 1.0000 to 1.2500 per token" in list_notices({}, {}, 2.0, 2.5, 2.0)[0]
    assert "init_scale" in rose


def test_a_loss_that_is_not_a_number_counts_as_risen() -> None:
    assert "rose" in list_notices({}, {}, 2.0, float("nan"))[0]


def test_layers_with_the_same_reason_are_named_once() -> None:
    kept = dict.fromkeys(("a", "b", "c"), "is too narrow") | {"d": "is no linear layer"}
    assert list_notices({}, kept, None, None) == [
        "4 layer(s) keep PEFT's default init: a and 2 more: each is too narrow; d is no linear layer"
    ]


def test_what_the_adapters_precision_takes_is_named() -> None:
    assert list_precision_notices([], []) == []
    moved, lossy = list_precision_notices(["a (2^9)", "b (2^8)"], ["c (60% of a direction)"])
    assert "in 2 layer(s), first a (2^9)" in moved
    assert "takes much of 1 layer(s), first c (60% of a direction)" in lossy

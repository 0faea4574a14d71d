"""What was fixed before the first result stays, whatever has been declared since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_da_bench.experiment.fixed_description import check_description, fix_description, list_added_methods
from simulated_records import description


def test_another_experiment_is_refused(tmp_path: Path) -> None:
    fix_description(description(), tmp_path)
    check_description(description(), tmp_path)
    with pytest.raises(
        ValueError, match=r"differs in alpha, protocol\.evaluations, protocol\.learning_rates, .*steps\. What"
    ):
        check_description(description(alpha=32, protocol={"steps": 3}), tmp_path)
    with pytest.raises(ValueError, match="differs in methods, of which none may be taken away"):
        check_description(description(methods=["lora"]), tmp_path)


def test_methods_may_be_added_with_a_date(tmp_path: Path) -> None:
    fix_description(description(methods=["lora"]), tmp_path)
    assert list_added_methods(tmp_path) == []
    fix_description(description(methods=["lora", "pissa"]), tmp_path)
    ((date, methods),) = list_added_methods(tmp_path)
    assert methods == ["pissa"]
    assert len(date.split("-")) == 3


def test_a_description_from_before_a_key_was_added_is_the_same(tmp_path: Path) -> None:
    experiment = description()
    fix_description(experiment, tmp_path)
    file = tmp_path / "experiment.json"
    fixed = json.loads(file.read_text())
    del fixed["experiment"]["task"]["apart_words"]
    file.write_text(json.dumps(fixed))
    check_description(experiment, tmp_path)
    task = {"kind": "generation", "train": "train.jsonl", "test": "test.jsonl", "apart_words": 5}
    with pytest.raises(ValueError, match=r"differs in task\.apart_words\."):
        check_description(description(task=task), tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"experiment": {}, "methods_added": 1}', '{"experiment": {"a": 1}, "methods_added": []}']
)
def test_a_damaged_description_is_named_and_not_written_over(content: str, tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(ValueError, match=r"experiment\.json is damaged: .* put back the file as it was"):
        fix_description(description(), tmp_path)
    assert (tmp_path / "experiment.json").read_text() == content

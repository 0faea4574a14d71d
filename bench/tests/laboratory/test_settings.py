from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from lora_da_bench.laboratory.settings import SETTINGS, Settings, fix_settings

FIRST = Settings()


def test_settings_are_fixed_by_the_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ("--seeds 1", "--seeds 1", "--seeds 2"):
        monkeypatch.setattr("sys.argv", ["bin/lora-da-bench", "laboratory", *arguments.split()])
        fix_settings(tmp_path, FIRST, "model", {"a": "1"})
    fix_settings(tmp_path, FIRST, "model", {"b": "2"})  # other domains may join
    written = json.loads((tmp_path / SETTINGS).read_text())
    assert written["domains"] == {"a": "1", "b": "2"}
    assert {"started", "machine", "versions"} < written.keys()
    assert written["commands"] == ["lora-da-bench laboratory --seeds 1", "lora-da-bench laboratory --seeds 2"]
    with pytest.raises(ValueError, match=r"other settings: steps \(150, now 3\)"):
        fix_settings(tmp_path, dataclasses.replace(FIRST, steps=3), "model", {"a": "1"})
    with pytest.raises(ValueError, match=r"model \(model, now other\)"):
        fix_settings(tmp_path, FIRST, "other", {"a": "1"})
    with pytest.raises(ValueError, match=r"domain a \(1, now 3\)"):
        fix_settings(tmp_path, FIRST, "model", {"a": "3"})
    assert json.loads((tmp_path / SETTINGS).read_text()) == written


def test_versions_are_settings(tmp_path: Path) -> None:
    fix_settings(tmp_path, FIRST, "model", {})
    content = json.loads((tmp_path / SETTINGS).read_text())
    content["settings"]["torch"] = "1.0"
    (tmp_path / SETTINGS).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"torch \(1.0, now"):
        fix_settings(tmp_path, FIRST, "model", {})

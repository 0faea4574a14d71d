from __future__ import annotations

from pathlib import Path

import pytest

import lora_da
from lora_da.report.provenance import find_versions, fingerprint_source


def test_versions_of_what_is_installed() -> None:
    assert set(find_versions(["torch", "no-such-package"])) == {"python", "torch"}


def test_fingerprint_of_the_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lora_da, "__file__", str(tmp_path / "__init__.py"))

    def fingerprint(**sources: str) -> str:
        for name, text in sources.items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return fingerprint_source.__wrapped__()

    first = fingerprint(a="x = 1\n", b="")
    assert len(first) == 12
    assert first == fingerprint(a="x = 1\n")
    assert first != fingerprint(a="x = 2\n")

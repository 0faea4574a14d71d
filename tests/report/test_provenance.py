from __future__ import annotations

from lora_da.report.provenance import find_versions


def test_versions_of_what_is_installed() -> None:
    assert set(find_versions(["torch", "no-such-package"])) == {"python", "torch"}

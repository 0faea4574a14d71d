"""What is not installed, and the line that installs it."""

from __future__ import annotations

import importlib.metadata
import json
from types import SimpleNamespace
from typing import Any

import pytest

from lora_da.system.extras import need, pip_line

URL = "https://example.org/lora-da.git"


@pytest.mark.parametrize(
    ("record", "extra", "line"),
    [
        (None, "cli", "pip install 'lora-da[cli]'"),
        ({"url": "file:///a%20b", "dir_info": {"editable": True}}, "cli", "pip install -e '/a b[cli]'"),
        ({"url": "file:///clone", "dir_info": {}}, "", "pip install '/clone'"),
        ({"url": URL, "vcs_info": {"vcs": "git"}}, "cli", f"pip install 'lora-da[cli] @ git+{URL}'"),
        (
            {"url": URL, "vcs_info": {"vcs": "git"}, "subdirectory": "bench"},
            "ray",
            f"pip install 'lora-da[ray] @ git+{URL}#subdirectory=bench'",
        ),
        ({"url": "file:///a.whl", "archive_info": {}}, "cli", "pip install 'lora-da[cli] @ file:///a.whl'"),
    ],
)
def test_an_extra_comes_from_where_the_library_came_from(
    monkeypatch: pytest.MonkeyPatch, record: dict[str, Any] | None, extra: str, line: str
) -> None:
    text = None if record is None else json.dumps(record)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: text))
    assert pip_line(extra) == line


def test_what_is_needed_is_named_with_its_extra() -> None:
    need("this", "json", "csv")
    with pytest.raises(ModuleNotFoundError, match=r"this needs no_such, which is not installed: pip install .*\[cli\]"):
        need("this", "json", "no_such")
    with pytest.raises(ModuleNotFoundError, match=r"this needs no_such, .*: pip install 'nobodys'$"):
        need("this", "no_such", distribution="nobodys")

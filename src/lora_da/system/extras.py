"""What is not installed, and the line that installs it from where this library came from."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

_OF_EXTRAS = {"bitsandbytes": "quantised", "ray": "ray"}  # by the module; all others belong to "cli"


def pip_line(extra: str = "", distribution: str = "lora-da") -> str:
    """Return the command that installs a distribution with an extra, from where it was installed from before.

    That is the clone, the git address or the file which pip has recorded (PEP 610); without a record, the name alone.
    """
    from urllib.parse import urlparse
    from urllib.request import url2pathname  # here: these take a good part of the time in which --help is there

    origin, wanted = _origin(distribution), f"[{extra}]" if extra else ""
    if "dir_info" in origin:
        folder = url2pathname(urlparse(origin["url"]).path)
        return f"pip install {'-e ' if origin['dir_info'].get('editable') else ''}'{folder}{wanted}'"
    if "url" not in origin:
        return f"pip install '{distribution}{wanted}'"
    address = f"git+{origin['url']}" if "vcs_info" in origin else origin["url"]
    part = f"#subdirectory={origin['subdirectory']}" if "subdirectory" in origin else ""
    return f"pip install '{distribution}{wanted} @ {address}{part}'"


def need(purpose: str, *modules: str, distribution: str = "lora-da") -> None:
    """Refuse to begin what needs a module that is not installed; none of them is imported.

    Raises:
        ModuleNotFoundError: One is missing; the message names it and the line that installs it.
    """
    missing = next((module for module in modules if importlib.util.find_spec(module) is None), None)
    if missing is not None:
        extra = _OF_EXTRAS.get(missing, "cli" if distribution == "lora-da" else "")
        raise ModuleNotFoundError(
            f"{purpose} needs {missing}, which is not installed: {pip_line(extra, distribution)}", name=missing
        )


def _origin(distribution: str) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import distribution as find_distribution

    try:
        record = find_distribution(distribution).read_text("direct_url.json")
    except PackageNotFoundError:
        record = None
    return json.loads(record) if record else {}

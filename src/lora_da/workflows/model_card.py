"""The model card beside an adapter: it quotes names and the report so that they are read as they are."""

from __future__ import annotations

import itertools

from lora_da.report.initialization import InitializationReport

_CARD = """\
---
base_model: {base_in_yaml}
library_name: peft
tags: [lora, lora-da]
---
# A LoRA adapter initialised by LoRA-DA

This is the **starting point** of a fine-tuning run, not its result: an ordinary LoRA adapter on {base}, whose A and B
were computed from {examples} examples of the target data (LoRA-DA, arXiv 2510.24561). The base weights are unchanged.

```python
from peft import PeftModel
model = PeftModel.from_pretrained(base_model, "path/to/this/folder", is_trainable=True)
```

{report}

Settings, data fingerprint, versions and the figures of every layer are in `lora_da.json`.

{start}
"""
_AT_BASE = "B is zero: with the adapter, the model computes what the base model does."
_AHEAD = """\
Methods that compare with the base by disabling the adapter (DPO, GRPO) start from a difference that is not zero, since
B is not zero."""


def word_card(base: str, report: InitializationReport) -> str:
    """Return the card of an adapter on a base model, a folder or an id, in Markdown with YAML in front."""
    scale = report.config.init_scale
    at_base = scale == "zero" or (scale == "searched" and not report.step_length)
    return _CARD.format(
        base_in_yaml=_quote_in_yaml(base),
        base=_quote_in_line(base),
        examples=report.examples,
        report=_quote_in_block(str(report)),
        start=_AT_BASE if at_base else _AHEAD,
    )


def _quote_in_yaml(text: str) -> str:
    return '"' + _printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _quote_in_line(text: str) -> str:
    """A code span, of which CommonMark takes one space off at both ends (section 6.1)."""
    fence, shown = "`" * (_longest_run(text) + 1), _printable(text)
    ends = {shown[:1], shown[-1:]}
    space = " " if "`" in ends or (ends == {" "} and not shown.isspace()) else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _quote_in_block(text: str) -> str:
    fence = "`" * max(3, _longest_run(text) + 1)
    return "\n".join((fence, *map(_printable, text.split("\n")), fence))


def _printable(text: str) -> str:
    r"""The text with ``\x0a``, ``\u2028`` or ``\U000e0001`` for what has no shape of its own, as YAML has it too."""
    return "".join(character if character.isprintable() else _escape(ord(character)) for character in text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 2**8 else f"\\u{code:04x}" if code < 2**16 else f"\\U{code:08x}"


def _longest_run(text: str) -> int:
    """Backticks that follow each other."""
    return max((len(list(run)) for mark, run in itertools.groupby(text) if mark == "`"), default=0)

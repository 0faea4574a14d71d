"""What the words of a command line tell before TRL's parser reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_da.workflows.sft.first_look import look_at


@pytest.mark.parametrize("form", ["two words", "one word", "dashes", "cut short", "file", "file and line"])
def test_options_are_found_in_every_form(folder: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    given = {"model_name_or_path": folder, "dataset_name": tmp_path / "rows.jsonl", "output_dir": folder / "run"}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    (tmp_path / "sft.yaml").write_text("\n".join(f"{name}: {value}" for name, value in given.items()))
    if form == "one word":
        words = [f"--{name}={value}" for name, value in given.items()]
    elif form == "dashes":
        words = [word.replace("_", "-") if word.startswith("--") else word for word in words]
    elif form == "cut short":
        words = [word[:-4] if word.startswith("--") else word for word in words]
    elif form == "file":
        words = ["--config", str(tmp_path / "sft.yaml")]
    elif form == "file and line":
        words = ["--config", str(tmp_path / "sft.yaml"), "--output_dir", str(tmp_path / "run"), "--use_cpu"]
        look_at(words)
        return
    with pytest.raises(ValueError, match=r"--output_dir .* lies within the model"):
        look_at(words)


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n- b\n", "holds no settings: write one a line"), ("a: [\n", "is no YAML"), ("a: *b\n" * 21, "aliases")],
)
def test_files_that_hold_no_settings(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "sft.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        look_at(["--config", str(tmp_path / "sft.yaml")])


def test_a_mixture_is_data(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sft.yaml").write_text(f"model_name_or_path: {folder}\ndatasets:\n  - path: rows.jsonl\n")
    look_at(["--config", str(tmp_path / "sft.yaml")])

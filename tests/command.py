"""The command line, called in this process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from lora_da.cli.app import app


def call(*arguments: object) -> str:
    """Run a command; its output, or the exception it ended with."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def sft_options(model: str, data: str, output: Path, *options: object) -> list[str]:
    """Options of ``lora-da sft`` for a short run on the CPU."""
    given = ["--model_name_or_path", model, "--dataset_name", data, "--output_dir", str(output), "--max_steps", "4"]
    given += ["--use_cpu", "--bf16", "false", "--report_to", "none", "--disable_tqdm", "true"]
    return [*given, "--lora_da_examples", "12", *map(str, options)]

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from lora_da.workflows.checkpoints import find_whole_checkpoint, tell_checkpoint


def test_a_run_that_is_stopped_says_how_to_go_on(tmp_path: Path) -> None:
    assert "and the same command begins anew" in tell_checkpoint(tmp_path)
    for step in (2, 10, 12):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}")
        save_file({"weight": torch.zeros(2)}, folder / "adapter_model.safetensors")
    (tmp_path / "checkpoint-12" / "adapter_model.safetensors").write_bytes(b"half")
    whole = tmp_path / "checkpoint-10"
    assert find_whole_checkpoint(tmp_path) == whole
    assert tell_checkpoint(tmp_path) == f"{whole} is kept; go on from it by the same command with " + (
        "--resume_from_checkpoint true"
    )

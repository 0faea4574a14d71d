"""What a run shows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lora_da.workflows.sft.progress import TrainingProgress

LOGS = [
    {"loss": 2.0, "learning_rate": 1e-3, "grad_norm": 1.0},
    {"eval_loss": 1.5, "eval_runtime": 1.0},
    {"eval_far_loss": 2.5},
    {"train_loss": 1.75, "train_runtime": 12.3},
]


@pytest.mark.parametrize(("bar", "first"), [(True, True), (False, True), (True, False)])
def test_a_line_an_evaluation_and_the_loss_in_the_bar(
    capsys: pytest.CaptureFixture[str], bar: bool, first: bool
) -> None:
    shown, args = TrainingProgress(), SimpleNamespace(disable_tqdm=not bar)
    state = SimpleNamespace(is_world_process_zero=first, max_steps=4, global_step=0)
    shown.on_train_begin(args, state, None)
    state.global_step = 4
    shown.on_step_end(args, state, None)
    for logs in LOGS:
        shown.on_log(args, state, None, logs=logs)
    shown.on_train_end(args, state, None)
    out, err = capsys.readouterr()
    training = [] if bar else ["step 4: training loss 2.0000"]
    evaluations = ["step 4: held-out loss 1.5000", "step 4: held-out loss 2.5000 (far)"]
    assert out.splitlines() == (
        [*training, *evaluations, "4 steps in 12 s, training loss 1.7500 on average"] if first else []
    )
    assert ("loss 2.0000" in err and "4/4" in err) == (bar and first)

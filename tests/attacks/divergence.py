"""Training at absurd rates: it ends in words, no file holds a number that is not finite, and all JSON is JSON."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from safetensors.torch import load_file

from attacks.rounds import main
from command import sft_options
from folders import sums_file, tiny_model_folder
from lora_da.system.json_file import read_object
from lora_da.workflows.sft.arguments import parse_arguments
from lora_da.workflows.sft.fine_tuning import fine_tune


def attack(number: int) -> list[str]:
    """Train once, at a rate at which most runs diverge."""
    chance = random.Random(number)
    rate = 10.0 ** chance.uniform(2, 30)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = tiny_model_folder(folder / "model"), sums_file(folder / "data.jsonl")
        options = ["--learning_rate", rate, "--save_steps", 1, "--logging_steps", 1, "--max_grad_norm", 0]
        options += ["--lr_scheduler_type", "constant", "--lora_da_init", chance.choice(("true", "false"))]
        faults = []
        try:
            fine_tune(parse_arguments(sft_options(str(model), str(data), folder / "run", *options, "--max_steps", 6)))
        except FloatingPointError as error:
            if "training has diverged" not in str(error):
                faults.append(f"the message does not say so: {error}")
            if (folder / "run" / "adapter_model.safetensors").exists():
                faults.append("an adapter was written")
        for file in folder.rglob("*.safetensors"):
            if not all(tensor.isfinite().all() for tensor in load_file(file).values()):
                faults.append(f"{file} holds a number that is not finite")
        for file in folder.rglob("trainer_state.json"):
            read_object(file, "")
    return [f"rate {rate:.3g}: {fault}" for fault in faults]


if __name__ == "__main__":
    main(attack, 20)

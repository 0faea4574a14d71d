"""One process of a job that initialises the adapter of TRL's trainer, and then trains.

Called as ``torchrun trainer_worker.py OUTPUT MODEL EXAMPLES BATCH_SIZE``.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.distributed as dist
import trl
from peft import LoraConfig
from safetensors.torch import save_file

from lora_da import LoraDAConfig, initialize_from_trainer


def main() -> None:
    faulthandler.dump_traceback_later(240, exit=True)  # says where a process hangs
    output, model, examples, batch_size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    arguments = trl.SFTConfig(
        output_dir=str(output / "training"),
        max_steps=2,
        per_device_train_batch_size=batch_size,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
    )
    rows = [{"prompt": f"{n} + {n + 3} =", "completion": f" {2 * n + 3}" + "!" * (n % 3)} for n in range(25)]
    trainer: Any = trl.SFTTrainer(
        model,
        arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        peft_config=LoraConfig(r=2, target_modules="all-linear"),
    )
    config = LoraDAConfig(metric="parameters", input_damping=0.1, init_scale="stable")  # its step is never zero
    report = initialize_from_trainer(trainer, config, max_examples=examples, progress=False)
    found = {"loss_before": torch.tensor(report.loss_before), "loss_after": torch.tensor(report.loss_after)}
    found["examples"] = torch.tensor(report.examples)
    found |= {name: value.detach().clone() for name, value in trainer.model.named_parameters() if "lora_" in name}
    trainer.train()
    found["moved"] = torch.tensor(
        all(not torch.equal(value, found[name]) for name, value in trainer.model.named_parameters() if name in found)
    )
    save_file(found, output / f"{trainer.args.process_index}.safetensors")
    if dist.is_initialized():
        dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # what was found is on disk; torch's and the trainer's own end of a job has been seen to hang


main()

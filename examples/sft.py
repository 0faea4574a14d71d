"""Supervised fine-tuning: TRL's SFTTrainer, from an adapter that LoRA-DA initialises.

On several GPUs: ``accelerate launch examples/sft.py``.
"""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from lora_da import freeze_a, initialize_from_trainer


def train(model: str, dataset: str, output: str, max_steps: int, frozen: bool) -> None:
    """Initialise and train an adapter, and save it with the report."""
    # --8<-- [start:train]
    rows = load_dataset(*dataset.split(":"), split="train")
    if "question" in rows.column_names:  # GSM8K's names, in place of TRL's
        rows = rows.map(lambda row: {"prompt": row["question"] + "\n", "completion": row["answer"]})
        rows = rows.select_columns(["prompt", "completion"])
    gpu = torch.cuda.is_available()  # most CPUs are slow in bfloat16, which TRL takes
    trainer = SFTTrainer(
        model,
        SFTConfig(output, learning_rate=1e-3, max_steps=max_steps, bf16=gpu, use_cpu=not gpu),
        train_dataset=rows,
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"),
    )
    report = initialize_from_trainer(trainer)
    print(report)
    report.save(output)
    if frozen:  # half of the trained parameters and of the optimiser's state
        print(freeze_a(trainer.model), "parameters are trained")
    trainer.train()
    trainer.save_model()
    # --8<-- [end:train]


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a name on the hub, or a folder")
    parser.add_argument("--dataset", default="openai/gsm8k:main", help="NAME, NAME:CONFIGURATION or a folder")
    parser.add_argument("--output", default="sft-lora-da", help="the folder of the adapter")
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--freeze-a", action="store_true", dest="frozen", help="train B alone")
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

"""Preferences: TRL's DPOTrainer, from an adapter that LoRA-DA initialises for the DPO loss."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from lora_da import initialize_from_trainer


def train(model: str, dataset: str, output: str, max_steps: int) -> None:
    """Initialise and train an adapter, and save it with the report."""
    # --8<-- [start:train]
    rows = load_dataset(*dataset.split(":"), split="train")  # columns: prompt (or in the answers), chosen, rejected
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = get_peft_model(AutoModelForCausalLM.from_pretrained(model), lora)
    gpu = torch.cuda.is_available()  # most CPUs are slow in bfloat16, which TRL takes
    trainer = DPOTrainer(
        policy,  # with its adapter, and not a peft_config: the reference is then the initialised adapter
        args=DPOConfig(output, learning_rate=1e-4, max_steps=max_steps, bf16=gpu, use_cpu=not gpu),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(model),
    )
    report = initialize_from_trainer(trainer)  # margins and KL divergence are still 0 at the first step
    print(report)
    report.save(output)
    trainer.train()
    policy.save_pretrained(output, selected_adapters=["default"])  # without the reference
    # --8<-- [end:train]


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a name on the hub, or a folder")
    parser.add_argument(
        "--dataset", default="trl-lib/ultrafeedback_binarized", help="NAME, NAME:CONFIGURATION or a folder"
    )
    parser.add_argument("--output", default="dpo-lora-da", help="the folder of the adapter")
    parser.add_argument("--max-steps", type=int, default=100)
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

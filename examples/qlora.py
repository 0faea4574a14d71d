"""QLoRA: the base in 4 bits, and an adapter that LoRA-DA initialises for the base as it is in 4 bits."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from lora_da import initialize_from_trainer


def train(model: str, dataset: str, output: str, max_steps: int) -> None:
    """Initialise and train an adapter, and save it with the report."""
    rows = load_dataset(*dataset.split(":"), split="train")
    if "question" in rows.column_names:  # GSM8K's names, in place of TRL's
        rows = rows.map(lambda row: {"prompt": row["question"] + "\n", "completion": row["answer"]})
        rows = rows.select_columns(["prompt", "completion"])
    # --8<-- [start:train]
    gpu = torch.cuda.is_available()
    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if gpu else torch.float32,
    )
    base = AutoModelForCausalLM.from_pretrained(model, quantization_config=bits, device_map={"": 0 if gpu else "cpu"})
    trainer = SFTTrainer(
        base,
        SFTConfig(output, learning_rate=1e-3, max_steps=max_steps, bf16=gpu, use_cpu=not gpu),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"),
    )
    report = initialize_from_trainer(trainer)  # the base stays in 4 bits, and is not changed
    print(report)
    report.save(output)
    trainer.train()
    trainer.save_model()
    # --8<-- [end:train]


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a name on the hub, or a folder")
    parser.add_argument("--dataset", default="openai/gsm8k:main", help="NAME, NAME:CONFIGURATION or a folder")
    parser.add_argument("--output", default="qlora-lora-da", help="the folder of the adapter")
    parser.add_argument("--max-steps", type=int, default=100)
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

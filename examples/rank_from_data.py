"""A rank for each layer, chosen from the data: as many parameters as one rank for all, where they gain most."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from lora_da import choose_ranks, collect_statistics, initialize_from_trainer
from lora_da.loading import RowFormat, prepare_examples


def train(model: str, dataset: str, output: str, max_steps: int, budget: int, examples: int) -> None:
    """Choose the ranks, initialise and train an adapter, and save it with the report."""
    rows = load_dataset(*dataset.split(":"), split="train").shuffle(seed=0)
    if "question" in rows.column_names:  # GSM8K's names, in place of TRL's
        rows = rows.map(lambda row: {"prompt": row["question"] + "\n", "completion": row["answer"]})
        rows = rows.select_columns(["prompt", "completion"])
    # --8<-- [start:train]
    base = AutoModelForCausalLM.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    sample = prepare_examples(rows, tokenizer, RowFormat(), places=range(min(examples, len(rows))))
    statistics = collect_statistics(base, sample.batches(8), max_examples=examples)
    ranks = choose_ranks(statistics, budget=budget)
    print(ranks)
    lora = LoraConfig(
        r=budget,
        lora_alpha=2 * budget,
        target_modules=list(ranks),
        rank_pattern=ranks,
        alpha_pattern={name: 2 * rank for name, rank in ranks.items()},  # one scaling for all layers
    )
    gpu = torch.cuda.is_available()  # most CPUs are slow in bfloat16, which TRL takes
    trainer = SFTTrainer(
        get_peft_model(base, lora),
        SFTConfig(output, learning_rate=1e-3, max_steps=max_steps, bf16=gpu, use_cpu=not gpu),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    report = initialize_from_trainer(trainer)
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
    parser.add_argument("--output", default="rank-from-data-lora-da", help="the folder of the adapter")
    parser.add_argument("--max-steps", type=int, default=100)
    parser.add_argument("--budget", type=int, default=8, help="the rank whose parameters are spent")
    parser.add_argument("--examples", type=int, default=256, help="to choose the ranks from")
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

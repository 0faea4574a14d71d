"""Sequence to sequence: T5 and transformers' Seq2SeqTrainer, from an adapter that LoRA-DA initialises."""

import argparse
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from lora_da import initialize_from_trainer


def train(model: str, dataset: str, output: str, max_steps: int) -> None:
    """Initialise and train an adapter, and save it with the report."""
    tokenizer = AutoTokenizer.from_pretrained(model)

    def tokenised(row: dict[str, Any]) -> dict[str, Any]:
        source = tokenizer("summarize: " + row["text"], truncation=True, max_length=512)
        return {**source, "labels": tokenizer(text_target=row["summary"], truncation=True, max_length=128)["input_ids"]}

    rows = load_dataset(*dataset.split(":"), split="train")  # columns: text, summary
    rows = rows.map(tokenised, remove_columns=rows.column_names)
    # --8<-- [start:train]
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="SEQ_2_SEQ_LM")
    adapted = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(model), lora)
    trainer = Seq2SeqTrainer(
        adapted,
        Seq2SeqTrainingArguments(
            output, learning_rate=1e-3, max_steps=max_steps, use_cpu=not torch.cuda.is_available()
        ),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, adapted),
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
    parser.add_argument("--model", default="google-t5/t5-small", help="a name on the hub, or a folder")
    parser.add_argument("--dataset", default="FiscalNote/billsum", help="NAME, NAME:CONFIGURATION or a folder")
    parser.add_argument("--output", default="t5-lora-da", help="the folder of the adapter")
    parser.add_argument("--max-steps", type=int, default=100)
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

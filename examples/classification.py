"""Classification of texts by an encoder: transformers' Trainer, from an adapter that LoRA-DA initialises."""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from lora_da import initialize_from_trainer


def train(model: str, dataset: str, output: str, max_steps: int) -> None:
    """Train the new head, then initialise and train an adapter, and save both with the report."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = load_dataset(*dataset.split(":"), split="train")  # columns: text, label
    rows = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=256))
    args = TrainingArguments(output, learning_rate=1e-3, max_steps=max_steps, use_cpu=not torch.cuda.is_available())
    # --8<-- [start:train]
    classes = len(set(rows["label"]))
    classifier = AutoModelForSequenceClassification.from_pretrained(model, num_labels=classes)
    collator = DataCollatorWithPadding(tokenizer)
    # The head is new. Gradients through random numbers say nothing of the data: it learns first, alone.
    classifier.base_model.requires_grad_(False)
    Trainer(classifier, args, train_dataset=rows, data_collator=collator).train()

    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="SEQ_CLS")  # which keeps the head
    trainer = Trainer(get_peft_model(classifier, lora), args, train_dataset=rows, data_collator=collator)
    report = initialize_from_trainer(trainer)
    print(report)
    report.save(output)
    trainer.train()
    trainer.save_model()
    # --8<-- [end:train]


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="google-bert/bert-base-uncased", help="a name on the hub, or a folder")
    parser.add_argument(
        "--dataset", default="cornell-movie-review-data/rotten_tomatoes", help="NAME, NAME:CONFIGURATION or a folder"
    )
    parser.add_argument("--output", default="classification-lora-da", help="the folder of the adapter")
    parser.add_argument("--max-steps", type=int, default=200, help="of the head, and then of the adapter")
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

"""Classification of images: a vision transformer, from an adapter that LoRA-DA initialises."""

import argparse
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    DefaultDataCollator,
    Trainer,
    TrainingArguments,
)

from lora_da import initialize_from_trainer


def train(model: str, dataset: str, output: str, max_steps: int) -> None:
    """Train the new head, then initialise and train an adapter, and save both with the report."""
    processor = AutoImageProcessor.from_pretrained(model)

    def pixels(rows: dict[str, Any]) -> dict[str, Any]:
        images = [image.convert("RGB") for image in rows["image"]]
        return {"pixel_values": processor(images, return_tensors="pt")["pixel_values"], "labels": rows["labels"]}

    rows = load_dataset(*dataset.split(":"), split="train")  # columns: image, labels
    classes = len(set(rows["labels"]))
    rows = rows.with_transform(pixels)
    args = TrainingArguments(
        output,
        learning_rate=1e-3,
        max_steps=max_steps,
        remove_unused_columns=False,  # the images are needed until they are pixels
        use_cpu=not torch.cuda.is_available(),
    )
    # --8<-- [start:train]
    classifier = AutoModelForImageClassification.from_pretrained(
        model, num_labels=classes, ignore_mismatched_sizes=True
    )
    # The head is new. Gradients through random numbers say nothing of the data: it learns first, alone.
    classifier.base_model.requires_grad_(False)
    Trainer(classifier, args, train_dataset=rows, data_collator=DefaultDataCollator()).train()

    head = ["classifier"]  # is trained beside the adapter, and saved with it
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", exclude_modules=head, modules_to_save=head)
    adapted = get_peft_model(classifier, lora)
    trainer = Trainer(adapted, args, train_dataset=rows, data_collator=DefaultDataCollator())
    report = initialize_from_trainer(trainer)
    print(report)
    report.save(output)
    trainer.train()
    trainer.save_model()
    # --8<-- [end:train]


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="google/vit-base-patch16-224-in21k", help="a name on the hub, or a folder")
    parser.add_argument("--dataset", default="AI-Lab-Makerere/beans", help="NAME, NAME:CONFIGURATION or a folder")
    parser.add_argument("--output", default="vision-lora-da", help="the folder of the adapter")
    parser.add_argument("--max-steps", type=int, default=100, help="of the head, and then of the adapter")
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

"""Speech to text: Whisper and transformers' Seq2SeqTrainer, from an adapter that LoRA-DA initialises."""

import argparse
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoFeatureExtractor,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from lora_da import initialize_from_trainer


def train(model: str, dataset: str, split: str, output: str, max_steps: int) -> None:
    """Initialise and train an adapter, and save it with the report."""
    extractor = AutoFeatureExtractor.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)

    def prepared(row: dict[str, Any]) -> dict[str, Any]:
        sound = row["audio"]  # of the model's sampling rate, else the extractor refuses it
        features = extractor(sound["array"], sampling_rate=sound["sampling_rate"])
        return {"input_features": features["input_features"][0], "labels": tokenizer(row["text"])["input_ids"]}

    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        labels = [torch.tensor(example["labels"]) for example in examples]
        return {
            "input_features": torch.tensor([example["input_features"] for example in examples]),
            "labels": torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100),
        }

    rows = load_dataset(*dataset.split(":"), split=split)  # columns: audio, text
    rows = rows.map(prepared, remove_columns=rows.column_names)
    # --8<-- [start:train]
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")  # no task_type: PEFT has none for speech
    adapted = get_peft_model(AutoModelForSpeechSeq2Seq.from_pretrained(model), lora)
    args = Seq2SeqTrainingArguments(
        output,
        learning_rate=1e-3,
        max_steps=max_steps,
        remove_unused_columns=False,
        label_names=["labels"],
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = Seq2SeqTrainer(adapted, args, train_dataset=rows, data_collator=collate)
    report = initialize_from_trainer(trainer)
    print(report)
    report.save(output)
    trainer.train()
    trainer.save_model()
    # --8<-- [end:train]


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="openai/whisper-tiny.en", help="a name on the hub, or a folder")
    parser.add_argument(
        "--dataset",
        default="hf-internal-testing/librispeech_asr_dummy:clean",
        help="NAME, NAME:CONFIGURATION or a folder",
    )
    parser.add_argument("--split", default="validation", help="the part of the data set to train on")
    parser.add_argument("--output", default="speech-lora-da", help="the folder of the adapter")
    parser.add_argument("--max-steps", type=int, default=100)
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

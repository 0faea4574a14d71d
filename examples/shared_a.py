"""One A for three clients: each trains its own B on data that it keeps, and the mean of the B's is exact."""

import argparse
import shutil
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from lora_da import LoraDAConfig, collect_statistics, freeze_a, initialize_lora_da_weights
from lora_da.loading import RowFormat, prepare_examples

CLIENTS = 3


def train(model: str, dataset: str, output: str, max_steps: int, examples: int) -> None:
    """Solve for one A from the sums of all clients, train each client's B, and average them."""
    rows = load_dataset(*dataset.split(":"), split="train")
    if "question" in rows.column_names:  # GSM8K's names, in place of TRL's
        rows = rows.map(lambda row: {"prompt": row["question"] + "\n", "completion": row["answer"]})
        rows = rows.select_columns(["prompt", "completion"])
    clients = [rows.shard(CLIENTS, index) for index in range(CLIENTS)]
    tokenizer = AutoTokenizer.from_pretrained(model)
    folder = Path(output)
    # --8<-- [start:one_a]
    base = AutoModelForCausalLM.from_pretrained(model)
    config = LoraDAConfig(population_size=len(rows))
    sums = []
    for own in clients:  # each on a machine of its own: save_statistics and load_statistics carry them
        sample = prepare_examples(own, tokenizer, RowFormat(), places=range(min(examples, len(own))))
        sums.append(collect_statistics(base, sample.batches(8), config.collection, max_examples=examples))

    adapted = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    report = initialize_lora_da_weights(adapted, statistics=sums[0] + sums[1] + sums[2], config=config)
    print(report)
    adapted.save_pretrained(folder / "shared")
    report.save(folder / "shared")
    # --8<-- [end:one_a]
    # --8<-- [start:own_b]
    gpu = torch.cuda.is_available()  # most CPUs are slow in bfloat16, which TRL takes
    for index, own in enumerate(clients):
        base = AutoModelForCausalLM.from_pretrained(model)
        trainer = SFTTrainer(
            PeftModel.from_pretrained(base, folder / "shared", is_trainable=True),
            SFTConfig(
                str(folder / f"client-{index}"),
                learning_rate=1e-3,
                max_steps=max_steps,
                bf16=gpu,
                use_cpu=not gpu,
            ),
            train_dataset=own,
            processing_class=tokenizer,
        )
        freeze_a(trainer.model)
        trainer.train()
        trainer.save_model()
    # --8<-- [end:own_b]
    # --8<-- [start:mean]
    trained = [load_file(folder / f"client-{index}/adapter_model.safetensors") for index in range(CLIENTS)]
    mean = {}
    for name, first in trained[0].items():
        if "lora_A" in name:
            assert all(torch.equal(weights[name], first) for weights in trained)  # it was frozen
            mean[name] = first
        else:
            mean[name] = sum(weights[name] for weights in trained) / CLIENTS
    shutil.copytree(folder / "shared", folder / "mean")
    save_file(mean, folder / "mean/adapter_model.safetensors")
    # --8<-- [end:mean]


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a name on the hub, or a folder")
    parser.add_argument("--dataset", default="openai/gsm8k:main", help="NAME, NAME:CONFIGURATION or a folder")
    parser.add_argument("--output", default="shared-a-lora-da", help="the folder of all adapters")
    parser.add_argument("--max-steps", type=int, default=100, help="of each client")
    parser.add_argument("--examples", type=int, default=64, help="that each client reads for the sums")
    train(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

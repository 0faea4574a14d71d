"""Do statistics from a base in 4 or 8 bits (or bfloat16) give the LoRA-DA that the full-precision base gives?

All precisions read the same examples; how far each moves LoRA-DA from float32 is set beside how far float32 moves it
on other examples, equally many, which is what sampling does anyway. Bases come from the same weights: 4 bits is NF4
with double quantisation, by bitsandbytes. Printed and written are medians over all linear layers.

    LORA_DA_DATA=... python benchmarks/quantised.py --work build/quantised --results results/quantised
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from about_run import describe_run
from agreement import solved, subspace_agreement, sums_agreement, update_agreement
from lora_da import LoraDAConfig, Statistics, collect_statistics
from lora_da.loading import ModelSource, RowFormat, load_model, load_rows, prepare_examples
from lora_da.system.files import write_text
from lora_da.workflows.calibration_sample import sample_indices

FORM = RowFormat(prompt_column="question", completion_column="answer", max_length=256)
BATCH_SIZE = 8


def collected(options: argparse.Namespace, precision: str, sample: int) -> Statistics:
    """Statistics of one of two disjoint samples, by the base in some precision."""
    rows = load_rows(str(Path(os.environ["LORA_DA_DATA"]) / "gsm8k" / "train.jsonl"))
    places = sample_indices(len(rows), 2 * options.examples, seed=0)[sample::2]
    loaded = load_model(ModelSource(options.model, dtype=precision), options.work / "model")
    examples = prepare_examples(rows, loaded.tokenizer, FORM, places)
    batches = examples.batches(BATCH_SIZE)
    found = collect_statistics(loaded.model, batches, LoraDAConfig().collection, max_examples=len(examples))
    return dataclasses.replace(found, population_size=len(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="folder, Hugging Face id, GGUF file or smollm2")
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "8bit", "4bit"])
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--work", type=Path, required=True, help="folder for the converted model")
    parser.add_argument("--results", type=Path, required=True, help="folder for results.json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    reference = collected(options, "float32", 0)
    init = solved(reference, options.rank)
    rows: list[dict[str, Any]] = []
    others = [(precision, 0) for precision in options.precisions] + [("float32", 1)]
    for precision, sample in others:
        statistics = collected(options, precision, sample)
        other = solved(statistics, options.rank)
        row = {"precision": precision, "examples": "the same" if sample == 0 else "others"}
        row |= {"mean_loss": statistics.loss_sum / statistics.examples} | sums_agreement(reference, statistics)
        row |= {"subspace": subspace_agreement(init, other), "update": update_agreement(init, other)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    content = {
        **describe_run(),
        "what": "medians over linear layers, against statistics of the float32 base from the same examples",
        "model": options.model,
        "examples": options.examples,
        "rank": options.rank,
        "layers": len(init),
        "mean_loss_float32": reference.loss_sum / reference.examples,
        "rows": rows,
    }
    options.results.mkdir(parents=True, exist_ok=True)
    write_text(options.results / "results.json", json.dumps(content, indent=1) + "\n", overwrite=True)


if __name__ == "__main__":
    main()

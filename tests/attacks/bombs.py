"""Files that claim, or become, far more than they are: each is refused or read within seconds and a stated memory."""

from __future__ import annotations

import gzip
import json
import os
import resource
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from attacks.rounds import main
from folders import tiny_model_folder, tokenizer_in
from lora_da.loading import ModelSource, RowFormat, load_config, load_rows, load_tokenizer, prepare_examples

SECONDS = 60.0
BYTES = 4 * 2**30
"""A gibibyte of text, twice, with what is made of it; values may take half of what is free."""


def _rows(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    load_rows(str(path))


def _null_line(folder: Path) -> None:
    _rows(folder / "a.jsonl", b'{"text": "a"}\nnull\n')


def _nested_line(folder: Path) -> None:
    _rows(folder / "a.jsonl", b'{"text": "a"}\n' + b'{"text":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n")


def _nested_some(folder: Path) -> None:
    _rows(folder / "a.jsonl", b'{"text": "a"}\n' + b'{"text":' + b"[" * 400 + b"]" * 400 + b"}\n")


def _long_row(folder: Path) -> None:
    path = folder / "a.jsonl"
    path.write_text(json.dumps({"text": "some words and more " * 1_000_000}) + "\n")
    tokenizer = tokenizer_in(tiny_model_folder(folder / "model"), "")
    lengths = prepare_examples(load_rows(str(path)), tokenizer, RowFormat()).lengths
    assert lengths == [1024], lengths


def _many_columns(folder: Path) -> None:
    _rows(folder / "a.csv", ",".join(f"c{n}" for n in range(100_000)).encode() + b"\n" + b"," * 99_999 + b"\n")


def _keys_of_their_own(folder: Path) -> None:
    _rows(folder / "a.jsonl", b"".join(b'{"k%d": 1}\n' % n for n in range(50_000)))


def _gzip(folder: Path) -> None:
    block = b"\n" * 2**24
    with gzip.open(folder / "a.jsonl.gz", "wb", compresslevel=1) as stream:
        for _ in range(128):
            stream.write(block)
    load_rows(str(folder / "a.jsonl.gz"))


def _sparse(folder: Path) -> None:
    (folder / "a.jsonl").touch()
    os.truncate(folder / "a.jsonl", 8 * 2**30)
    load_rows(str(folder / "a.jsonl"))


def _empty_lists(folder: Path) -> None:
    _rows(folder / "a.json", b"[" + b"[],{}," * 2**26 + b"0]")


def _claimed_rows(folder: Path) -> None:
    table = pa.table({"text": pa.array([None], pa.string()).take(pa.array([0] * 1_000_000))})
    with pq.ParquetWriter(folder / "a.parquet", table.schema) as writer:
        for _ in range(60):
            writer.write_table(table, row_group_size=1_000_000)
    load_rows(str(folder / "a.parquet"))


def _one_text_for_all(folder: Path) -> None:
    text = pa.array(["x" * 2**20]).dictionary_encode()
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000), text.dictionary)
    pq.write_table(pa.table({"text": rows}), folder / "a.parquet", store_schema=False)
    load_rows(str(folder / "a.parquet"))


def _many_layers(folder: Path) -> None:
    about = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1_000_000}
    (folder / "config.json").write_text(json.dumps(about))
    load_config(ModelSource(str(folder)))


def _many_blocks(folder: Path) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + text("general.architecture") + struct.pack("<I", 8) + text("llama")
    (folder / "a.gguf").write_bytes(head + text("llama.block_count") + struct.pack("<II", 4, 100_000))
    load_config(ModelSource(str(folder / "a.gguf")))


def _aliases(folder: Path) -> None:
    from lora_da.workflows.sft.arguments import parse_arguments

    lines = ['a0: &a0 ["x","x","x","x","x","x","x","x","x"]']
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (folder / "a.yaml").write_text("\n".join([*lines, "model_name_or_path: m", "learning_rate: *a8"]))
    parse_arguments(["--config", str(folder / "a.yaml")])


def _endless_template(folder: Path) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer = tokenizer_in(tiny_model_folder(folder / "model"), loop)
    (folder / "a.json").write_text(json.dumps([{"messages": [{"role": "user", "content": "a"}] * 2}]))
    prepare_examples(load_rows(str(folder / "a.json")), tokenizer, RowFormat())


def _long_answer(_: Path) -> None:
    from lora_da_bench.tasks.number_grading import match_numbers, read_prediction

    for answer in ("$ " * 200_000, "1" * 200_000, "12" + " or" * 100_000, "1" + ",000" * 50_000, "1/" + "0" * 200_000):
        match_numbers(read_prediction(f"#### {answer}x"), "12")
    raise ValueError("all of them were graded")


def _damaged_tokenizer(folder: Path) -> None:
    tiny_model_folder(folder)
    (folder / "tokenizer.json").write_text('{"version": ')
    load_tokenizer(ModelSource(str(folder)))


BOMBS: dict[Callable[[Path], None], str] = {
    _null_line: "NoneType",
    _nested_line: "line 2",
    _nested_some: "row 1",
    _long_row: "",
    _many_columns: "columns",
    _keys_of_their_own: "columns",
    _gzip: "text",
    _sparse: "text",
    _empty_lists: "",
    _claimed_rows: "rows",
    _one_text_for_all: "memory",
    _many_layers: "num_hidden_layers",
    _many_blocks: "block_count",
    _aliases: "aliases",
    _endless_template: "chat template",
    _long_answer: "graded",
    _damaged_tokenizer: "tokenizer.json",
}


def _forget_peak() -> int:
    """Forget the largest resident set of what ran before (Linux); return the resident set."""
    Path("/proc/self/clear_refs").write_text("5")
    return int(psutil.Process().memory_info().rss)


def attack(number: int) -> list[str]:
    """Read one bomb: those of the list, one after another."""
    bomb, word = list(BOMBS.items())[number % len(BOMBS)]
    faults = []
    before, free = _forget_peak(), psutil.virtual_memory().available
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        try:
            bomb(Path(folder))
            if word:
                faults.append("it was read")
        except (ValueError, FileNotFoundError) as error:
            if word not in str(error) or (
                folder not in str(error) and word != "graded" and bomb is not _endless_template
            ):
                faults.append(f"the message does not say what is wrong: {str(error)[:300]}")
            if len(str(error)) > 2_000:
                faults.append(f"the message has {len(str(error)):,} characters")
        if time.monotonic() - started > SECONDS:
            faults.append(f"it took {time.monotonic() - started:.0f} seconds")
    taken, stated = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before, BYTES
    if bomb is _empty_lists:
        stated = max(BYTES, free // 2)
    if taken > stated:
        faults.append(f"it took {taken / 2**30:.1f} GiB")
    return [f"{bomb.__name__}: {fault}" for fault in faults]


if __name__ == "__main__":
    main(attack, len(BOMBS))

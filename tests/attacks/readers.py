"""Data files of all formats with bytes changed: read, or refused in words that name the file; never a crash."""

from __future__ import annotations

import functools
import gzip
import io
import json
import random
import shutil
import tempfile
import warnings
from pathlib import Path

import datasets

from attacks.rounds import main
from lora_da.loading import load_rows

_ROWS = [{"prompt": f'{n} "plus"\t{n},', "completion": str(2 * n), "tags": [n, {"a": None}]} for n in range(30)]
_TEXTS = [{"prompt": row["prompt"], "completion": row["completion"]} for row in _ROWS]
_TOKENS = (
    b"null",
    b"NaN",
    b"[" * 5000,
    b'{"a":' * 300,
    b'"',
    b"\x00",
    b"\xff\xfe",
    b"\r\n",
    b"1e999",
    b"-",
    b"\\ud800",
)


@functools.cache
def _originals() -> dict[str, bytes]:
    table = datasets.Dataset.from_list(_TEXTS)
    files = {"a.jsonl": "".join(json.dumps(row) + "\n" for row in _ROWS).encode(), "a.json": json.dumps(_ROWS).encode()}
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        stream = io.BytesIO()
        table.to_csv(stream, sep=separator, index=False)
        files[name] = stream.getvalue()
    stream = io.BytesIO()
    table.to_parquet(stream)
    files["a.parquet"] = stream.getvalue()
    files["a.txt"] = "\n".join(str(row["prompt"]) for row in _TEXTS).encode()
    return files | {"b.jsonl.gz": gzip.compress(files["a.jsonl"]), "b.csv.gz": gzip.compress(files["a.csv"])}


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Change, remove, double, insert or cut off a few bytes."""
    found = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place, length = chance.randrange(len(found) + 1), chance.choice((1, 2, 8, 64))
        kind = chance.randrange(6)
        if kind == 0:
            found[place : place + length] = chance.randbytes(length)
        elif kind == 1:
            del found[place : place + length]
        elif kind == 2:
            found[place:place] = found[place : place + 10 * length]
        elif kind == 3:
            found[place:place] = chance.choice(_TOKENS)
        elif kind == 4 and place < len(found):
            found[place] ^= 1 << chance.randrange(8)
        elif kind == 5 and chance.random() < 0.3:
            del found[place:]
    return bytes(found)


def attack(number: int) -> list[str]:
    """Read one changed file, or one folder of save_to_disk with a changed file."""
    chance = random.Random(number)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if number % 9 == 8:
            target = Path(folder) / "saved"
            datasets.disable_progress_bars()
            datasets.Dataset.from_list(_TEXTS).save_to_disk(target)
            file = chance.choice(sorted(target.iterdir()))
            file.write_bytes(mutate(file.read_bytes(), chance))
        else:
            name = sorted(_originals())[number % 9]
            target = Path(folder) / name
            target.write_bytes(mutate(_originals()[name], chance))
        try:
            rows = load_rows(str(target))
            len(rows.to_list())
        except (ValueError, FileNotFoundError) as error:
            return [] if str(target) in str(error) else [f"{target.name}: the message names no file: {error}"]
        except Exception as error:
            return [f"{target.name}: {type(error).__name__}: {error}"]
        finally:
            shutil.rmtree(target, ignore_errors=True)
    return []


if __name__ == "__main__":
    main(attack, 3000)

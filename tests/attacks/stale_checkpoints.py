"""A folder of checkpoints is used again with something changed: the result must be as if there were no folder."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from attacks.rounds import main
from lora_da import Checkpoint, CollectionConfig, Statistics, collect_statistics
from lora_da.losses import CausalLM
from models import batches_of, causal_examples, tiny_llama, with_lora

Call = dict[str, Any]


def _collect(call: Call, folder: Path | None) -> Statistics:
    checkpoint = None if folder is None else Checkpoint(folder, every=1, loss_key=call["key"])
    loss = None if call["key"] is None else call["loss"]
    return collect_statistics(
        call["model"], call["data"], call["config"], example_loss=loss, checkpoint=checkpoint, progress=False
    )


def _call() -> Call:
    def loss(output: Any, batch: Any) -> torch.Tensor:
        return factor[0] * CausalLM()(output, batch)

    factor = [1.0]
    data = batches_of(causal_examples(4), 2)
    return {
        "model": tiny_llama(), "data": data, "config": CollectionConfig(), "loss": loss, "factor": factor, "key": None
    }  # fmt: skip


def _own_loss(call: Call, chance: random.Random) -> None:
    call["key"], call["factor"][0] = "another", chance.uniform(2, 3)


def _weight(call: Call, chance: random.Random) -> None:
    """One entry of one parameter, by as little as its precision can hold."""
    flat = chance.choice(list(call["model"].parameters())).data.view(-1)
    entry = chance.randrange(len(flat))
    flat[entry] = torch.nextafter(flat[entry], torch.tensor(9.0)) if chance.random() < 0.5 else flat[entry] + 1


def _buffer(call: Call, chance: random.Random) -> None:
    chance.choice(list(call["model"].buffers())).data.mul_(chance.uniform(1.1, 2))


def _setting(call: Call, chance: random.Random) -> None:
    """What neither a parameter nor a buffer shows."""
    model = call["model"]
    if chance.random() < 0.5:
        model.model.norm.variance_epsilon = chance.uniform(0.1, 1)
    else:
        model.config.hidden_act = "gelu"
        for layer in model.model.layers:
            layer.mlp.act_fn = torch.nn.GELU()


def _precision(call: Call, chance: random.Random) -> None:
    call["model"] = call["model"].to(chance.choice([torch.bfloat16, torch.float64]))


def _data(call: Call, chance: random.Random) -> None:
    batch = chance.choice(call["data"])
    row = chance.randrange(len(batch["labels"]))
    batch["labels"][row, 1:][batch["labels"][row, 1:] >= 0] = chance.randrange(3, 37)


def _fewer_batches(call: Call, chance: random.Random) -> None:
    call["data"] = call["data"][: chance.randrange(1, len(call["data"]))]


def _config(call: Call, chance: random.Random) -> None:
    call["config"] = chance.choice([CollectionConfig("mean"), CollectionConfig(output_factor="full")])


def _layers(call: Call, chance: random.Random) -> None:
    call["model"] = with_lora(call["model"], target_modules=["q_proj", chance.choice(["v_proj", "up_proj"])])


CHANGES: list[Callable[[Call, random.Random], None]] = [
    _own_loss, _weight, _buffer, _setting, _precision, _data, _fewer_batches, _config, _layers
]  # fmt: skip


def attack(number: int) -> list[str]:
    """Collect, change one thing, and collect again with the same folder."""
    chance, change = random.Random(number), CHANGES[number % len(CHANGES)]
    with tempfile.TemporaryDirectory() as name:
        folder, call = Path(name), _call()
        if change is _own_loss:
            call["key"] = "one"
        _collect(call, folder)
        change(call, chance)
        found, wanted = _collect(call, folder), _collect(call, None)
        files = len(list(folder.glob("*.safetensors")))
    faults = [
        f"{change.__name__}: the {kind} of {layer} are others"
        for kind in ("gradient_sums", "output_sums", "input_sums")
        for layer, tensor in getattr(wanted, kind).items()
        if not torch.equal(getattr(found, kind)[layer], tensor)
    ]
    if found.layers != wanted.layers or files != 2:
        faults.append(f"{change.__name__}: {files} files, layers {found.layers}")
    return faults


if __name__ == "__main__":
    main(attack, 90)

"""What an initialisation takes from a trainer: examples as training will see them, and nothing that training misses.

A trainer is transformers' or one made from it, such as TRL's; neither library is imported.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

from lora_da.adapter.sharding import is_partitioned
from lora_da.statistics.batches.examples import take_examples
from lora_da.system.random_state import preserve_random_state

# Their `compute_loss` takes the model's own loss, or one that equals it.
_LOSS_OF_THE_MODEL = ("transformers.trainer", "trl.trainer.sft_trainer")


def check_trainer(trainer: Any, *, own_loss: bool) -> None:
    """Refuse a trainer from which, or for which, an adapter can't be initialised, with a loss of one's own or without.

    Raises:
        ValueError: The message says why, and what to do.
    """
    name = type(trainer).__name__
    dataset = getattr(trainer, "train_dataset", None)
    if dataset is None or (hasattr(dataset, "__len__") and len(dataset) == 0):
        raise ValueError(f"the {name} has no train_dataset, or an empty one, to take calibration examples from")
    if getattr(trainer, "model_init", None) is not None:
        raise ValueError(
            f"the {name} makes its model anew by model_init when training starts, which would lose the initialised "
            "adapter: give it the model itself"
        )
    if hasattr(trainer, "ref_model"):
        raise ValueError(
            f"the {name} compares with the model as it was when the trainer was made: initialise the adapter first "
            "(`lora-da init`, or initialize_lora_da_weights), and make the trainer from that PEFT model"
        )
    if not hasattr(trainer.model, "peft_config"):
        raise ValueError(
            f"the {name}'s model has no adapter: give the trainer a model from peft.get_peft_model(model, "
            "LoraConfig(...)), or TRL's trainer a peft_config"
        )
    if trainer.state.global_step > 0:
        raise ValueError(
            f"the {name} has trained {trainer.state.global_step} steps already, which the initialisation would undo: "
            "call it before train()"
        )
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.cpu_ram_efficient_loading:
        raise ValueError(
            "FSDP's cpu_ram_efficient_loading leaves all processes but the first without weights until training "
            "starts: set it to false in the FSDP settings"
        )
    if any(is_partitioned(parameter) for parameter in trainer.model.parameters()):
        raise ValueError(
            "DeepSpeed's ZeRO-3 has parted the weights and gathers them only once training has started: make the "
            "adapter first (`lora-da init`, or initialize_lora_da_weights), and give the trainer that PEFT model"
        )
    if not own_loss:
        _check_loss(trainer)


def _check_loss(trainer: Any) -> None:
    """Refuse a trainer that does not train on the model's own loss."""
    of_its_own = None
    if getattr(trainer, "compute_loss_func", None) is not None:
        of_its_own = "compute_loss_func"
    elif type(trainer).compute_loss.__module__ not in _LOSS_OF_THE_MODEL:
        of_its_own = f"{type(trainer).__name__}.compute_loss"
    if of_its_own is not None:
        raise ValueError(
            f"the trainer's loss is its own ({of_its_own}), of which the examples' losses can't be told apart: give "
            "example_loss, a function of (model output, batch) that returns each example's loss"
        )


def loss_notice(trainer: Any) -> str | None:
    """What a user should know about a trainer whose loss is close to its model's own, but not the same."""
    changes = []
    if getattr(trainer.args, "label_smoothing_factor", 0):
        changes.append(f"label_smoothing_factor={trainer.args.label_smoothing_factor}")
    if getattr(trainer.args, "loss_type", "nll") == "dft":
        changes.append("loss_type='dft'")
    if not changes:
        return None
    return (
        f"the trainer changes the loss by {' and '.join(changes)}; the adapter is initialised for the plain negative "
        "log-likelihood (give example_loss for another)"
    )


def calibration_batches(trainer: Any, max_examples: int, seed: int) -> list[dict[str, Any]]:
    """Batches of training examples drawn at random, as the trainer's own loader makes them.

    The loader's data set (without the columns that the model does not take) and its collator are the trainer's own. The
    order is a random one, so that the first batches are a random sample too where a row holds several examples. An
    iterable data set gives its first examples.

    Returns:
        The same in every process of a job.

    Raises:
        ValueError: ``max_examples`` is not positive, or reading the training set would take examples away from it.
    """
    if max_examples < 1:
        raise ValueError(f"max_examples must be at least 1, not {max_examples}")
    rows: Any
    with preserve_random_state(), _nothing_registered(trainer.accelerator):
        loader = trainer.get_train_dataloader()
        _seed_everything(seed)
        if isinstance(trainer.train_dataset, IterableDataset):
            rows = _first_rows(trainer.train_dataset, max_examples)
        else:
            count = min(max_examples, len(loader.dataset))
            rows = Subset(loader.dataset, random.Random(seed).sample(range(len(loader.dataset)), count))
        size = trainer.args.per_device_train_batch_size
        return list(take_examples(DataLoader(rows, batch_size=size, collate_fn=loader.collate_fn), max_examples))


def _first_rows(dataset: Any, count: int) -> Sequence[Any]:
    if iter(dataset) is iter(dataset):
        raise ValueError(
            "the trainer's train_dataset can be read only once, so that training would miss the calibration examples: "
            "give the trainer one that starts anew at each iter()"
        )
    return list(islice(dataset, count))


def count_examples(trainer: Any) -> int | None:
    """The number of examples of the training set; None where only reading all of it would tell.

    A packed row, whose ``seq_lengths`` lists its examples, counts as that many.
    """
    dataset = trainer.train_dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        return None
    if "seq_lengths" in (getattr(dataset, "column_names", None) or ()):
        return sum(map(len, dataset["seq_lengths"][:]))  # one read: going through the column reads row by row
    return len(dataset)


@contextmanager
def checkpointing_as_in_training(trainer: Any) -> Iterator[None]:
    """Checkpoint activations if the trainer is going to, which it switches on when training starts.

    Without it, a batch that fits into the memory in training would not fit before. The model's modes are restored.
    """
    model, args = trainer.model, trainer.args
    # The second name is transformers' older one.
    if not any(getattr(args, f"{kind}_checkpointing", False) for kind in ("activation", "gradient")):
        yield
        return
    training = {module: module.training for module in model.modules()}
    switched_on = any(getattr(module, "gradient_checkpointing", False) for module in training)
    model.train()  # checkpointing does nothing in evaluation mode
    if not switched_on:
        _checkpointing_method(model, "enable")({"use_reentrant": False})
    try:
        yield
    finally:
        if not switched_on:
            _checkpointing_method(model, "disable")()
        for module, was_training in training.items():
            module.training = was_training


def _checkpointing_method(model: Any, change: str) -> Any:
    names = [f"{kind}_checkpointing_{change}" for kind in ("activation", "gradient")]
    return getattr(model, names[0], None) or getattr(model, names[1])


@contextmanager
def _nothing_registered(accelerator: Any) -> Iterator[None]:
    """Let an accelerator forget the loaders that it prepares: it saves and loads the states of those that it knows."""
    known = accelerator._dataloaders
    count = len(known)
    try:
        yield
    finally:
        del known[count:]


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)

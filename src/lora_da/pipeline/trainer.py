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
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset

from lora_da.adapter.layers import find_adapted_layers
from lora_da.adapter.sharding import is_partitioned
from lora_da.statistics.batches.examples import find_length, take_examples
from lora_da.system.random_state import preserve_random_state

_REFERENCE = "ref"  # the adapter into which TRL copies the one that a trainer was given, to compare with


def check_trainer(trainer: Any) -> None:
    """Refuse a trainer from which, or for which, an adapter can't be initialised.

    Raises:
        ValueError: The message says why, and what to do.
        TypeError: It is a model.
    """
    name = type(trainer).__name__
    if isinstance(trainer, nn.Module):
        raise TypeError(
            f"the {name} is a model, not a trainer: initialize_lora_da_weights(model, dataloader) takes models"
        )
    dataset = getattr(trainer, "train_dataset", None)
    if dataset is None or find_length(dataset) == 0:
        raise ValueError(f"the {name} has no train_dataset, or an empty one, to take calibration examples from")
    if getattr(trainer, "model_init", None) is not None:
        raise ValueError(
            f"the {name} makes its model anew by model_init when training starts, which would lose the initialised "
            "adapter: give it the model itself"
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
    if hasattr(trainer, "reward_funcs"):
        raise ValueError(
            f"the {name} trains on answers that it generates itself, so that its train_dataset has no examples to "
            "learn from: initialise the adapter first, by initialize_lora_da_weights from answers as they should be, "
            "and make the trainer from that PEFT model, whose reference is then the initialised adapter"
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


def calibration_batches(
    trainer: Any, max_examples: int, seed: int, rows_per_example: int | None = 1
) -> list[dict[str, Any]]:
    """Batches of training examples drawn at random, as the trainer's own loader makes them.

    The loader's data set (without the columns that the model does not take) and its collator are the trainer's own. The
    order is a random one, so that the first batches are a random sample too where a row holds several examples. An
    iterable data set gives its first examples. Of each the collator makes ``rows_per_example`` rows, None if only the
    loss can tell.

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
        batches = DataLoader(rows, batch_size=size, collate_fn=loader.collate_fn)
        # As many rows as examples are asked for were drawn; there may be more in them where rows are packed.
        return list(take_examples(batches, max_examples if rows_per_example == 1 else sys.maxsize))


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
    if isinstance(dataset, IterableDataset):
        return None
    if "seq_lengths" in (getattr(dataset, "column_names", None) or ()):
        return sum(map(len, dataset["seq_lengths"][:]))  # one read: going through the column reads row by row
    return find_length(dataset)


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


def renew_reference(trainer: Any, adapter_name: str) -> str | None:
    """Let a trainer that compares its model with a reference start from no difference, as far as that can be.

    TRL copies the adapter of a PEFT model that it is given, when the trainer is made; so is the initialised one now.

    Returns:
        What the user should know: why the model differs from its reference at the first step.
    """
    if not hasattr(trainer, "ref_model"):
        return None
    name, computed = type(trainer).__name__, getattr(trainer.args, "precompute_ref_log_probs", False)
    adapted = find_adapted_layers(trainer.model, adapter_name)[0]
    if trainer.ref_model is None and _REFERENCE in trainer.model.peft_config:
        copies = find_adapted_layers(trainer.model, _REFERENCE)[0]
        for layer, own in adapted.items():
            copies[layer].A.data.copy_(own.A.data)
            copies[layer].B.data.copy_(own.B.data)
        if not computed:
            return None
    if trainer.ref_model is None and not any(layer.B.any() for layer in adapted.values()):
        return None  # it still is the base model
    what = "log-probabilities that were computed when it was made" if computed else "the base model"
    what = "a reference model of its own" if trainer.ref_model is not None else what
    return (
        f"the {name} compares with {what}, from which the initialised adapter differs at the first step: the margins "
        '(and the KL divergence) don\'t start at 0. LoraDAConfig(init_scale="zero") starts there; to compare with the '
        "initialised adapter, initialise a PEFT model "
        "first (`lora-da init`, or initialize_lora_da_weights), and make the trainer from it without a ref_model"
    )


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

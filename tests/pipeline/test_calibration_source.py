"""What can be read from, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import datasets
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lora_da import Statistics, collect_statistics, initialize_lora_da_weights
from lora_da.adapter.layers import find_adapted_layers
from lora_da.losses import CausalLM
from lora_da.pipeline.calibration_source import CalibrationSource, find_adapter_if_any, load_batches, open_source
from models import Example, batches_of, causal_examples, collate, tiny_gpt2, tiny_llama, with_lora

EXAMPLES = causal_examples(12)
BATCHES = batches_of(EXAMPLES)


def opened(model: Any, batches: Any = BATCHES, most: int = 12, loss: Any = None) -> CalibrationSource:
    adapted = find_adapter_if_any(model, "default")
    return open_source(model, adapted, batches, most, loss, progress=False)


def collected(data: Any, collator: Any = None) -> Statistics:
    return collect_statistics(tiny_llama(), data, collate_fn=collator, progress=False)


def test_the_layers_are_the_adapters_or_all_linear_ones() -> None:
    """Conv1D's weights lie the other way round."""
    plain = opened(tiny_gpt2())
    assert len(plain.layers) == 8
    for name, layer in plain.layers.items():
        assert isinstance(layer, nn.Module)
        assert plain.shapes[name] == tuple(layer.get_parameter("weight").shape)[::-1]
    model = with_lora(tiny_gpt2(), target_modules=["c_fc"])
    adapted = opened(model)
    assert adapted.shapes == {f"transformer.h.{index}.mlp.c_fc": (64, 16) for index in range(2)}
    assert list(adapted.layers.values()) == [layer.base for layer in find_adapted_layers(model, "default")[0].values()]
    assert adapted.base is model.get_base_model()


def test_as_many_examples_are_read_as_are_asked_for() -> None:
    assert [len(batch["labels"]) for batch in opened(tiny_llama(), most=6).batches] == [4, 2]


def test_rows_are_examples_once_none_can_be_cut() -> None:
    """How many rows an example of a loss of one's own has can't be told, until so many were read as are wanted."""

    def own(output: Any, batch: Any) -> Any:
        return CausalLM()(output, batch)

    assert opened(tiny_llama(), most=12).rows_per_example == 1
    assert opened(tiny_llama(), most=13, loss=own).rows_per_example is None
    assert opened(tiny_llama(), most=12, loss=own).rows_per_example == 1
    assert opened(tiny_llama(), most=13, loss=own).counting_rows().rows_per_example == 1
    own.rows_per_example = 2  # type: ignore[attr-defined]
    assert opened(tiny_llama(), most=6, loss=own).counting_rows().rows_per_example == 2


def test_roundings_are_carried_along_where_there_are_many_batches() -> None:
    source = opened(tiny_llama())
    many = dataclasses.replace(source, batches=[BATCHES[0]] * 1000)
    assert (source.compensated, many.compensated) == (False, True)


def test_a_model_without_linear_layers_or_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="Embedding has no linear layer"):
        opened(nn.Embedding(3, 3))
    with pytest.raises(ValueError, match=r"layer .*q_proj is on the meta device"):
        opened(tiny_llama().to("meta"))
    with pytest.raises(ValueError, match="no LoRA adapter named 'other'; it has default"):
        find_adapter_if_any(with_lora(tiny_llama()), "other")


def test_a_data_set_with_its_collator() -> None:
    """Lists of examples, and data sets of which each example is one."""
    wanted = collected(BATCHES)
    rows = datasets.Dataset.from_list([{name: value.tolist() for name, value in e.items()} for e in EXAMPLES])

    def collate_rows(rows: Any) -> Any:
        return collate([{name: torch.tensor(value) for name, value in row.items()} for row in rows])

    for data, collator in ((EXAMPLES, collate), (rows, collate_rows)):
        found = collected(data, collator)
        assert found.examples == found.population_size == len(EXAMPLES)
        assert found.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-5)
    with pytest.raises(ValueError, match=r"'input_ids' in batch 0 .* is a list.*give the data set with"):
        collected(rows)


def test_a_data_set_that_does_not_know_its_length() -> None:
    class Refusing(Dataset[Example]):
        def __getitem__(self, index: int) -> Example:
            return EXAMPLES[index]

        def __len__(self) -> int:
            raise RuntimeError("not known")

    found = collected(Refusing(), collate)
    assert found.examples == len(EXAMPLES)
    assert found.population_size is None


def test_what_is_no_data_is_refused() -> None:
    loader: Any = DataLoader(EXAMPLES, batch_size=4, collate_fn=collate)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a DataLoader has its own collator"):
        load_batches(loader, collate)
    with pytest.raises(TypeError, match=r"data must give batches .*, not 5"):
        load_batches(5, collate)
    with pytest.raises(TypeError, match="give them as statistics="):
        initialize_lora_da_weights(with_lora(tiny_llama()), collected(BATCHES), progress=False)  # type: ignore[arg-type]

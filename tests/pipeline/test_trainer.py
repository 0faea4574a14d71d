"""An adapter initialised from a trainer: the trainer's examples, and a training that nothing else has changed."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

from lora_da import InitializationReport, initialize_from_trainer, initialize_lora_da_weights
from lora_da.pipeline.trainer import calibration_batches, count_examples
from models import tiny_bert
from presets import PARAMETERS

trl = pytest.importorskip("trl")

pytestmark = pytest.mark.filterwarnings("ignore:.*saw fewer tokens than they have input dimensions")

ROWS = 21
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}<a>{{ m.content }}</s>{% endgeneration %}{% else %}<u>{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def text(index: int) -> dict[str, Any]:
    return {"text": f"{index} and {index + 7} make {2 * index + 7}" + " indeed" * (index % 4), "unused": index}


def prompted(index: int) -> dict[str, Any]:
    return {"prompt": f"{index} + {index + 7} =", "completion": f" {2 * index + 7}", "unused": index}


def conversation(index: int) -> dict[str, Any]:
    question = {"role": "user", "content": f"{index} + 7?"}
    return {"messages": [question, {"role": "assistant", "content": f"{index + 7}"}], "tools": [TOOL]}


class Recording:
    """A collator that keeps what it gives."""

    def __init__(self, collator: Any) -> None:
        self.collator, self.batches = collator, list[dict[str, Any]]()

    def __call__(self, examples: Any) -> Any:
        self.batches.append(self.collator(examples))
        return self.batches[-1]


def arguments(kind: Any, folder: Path, **settings: Any) -> Any:
    common = {"max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "seed": 5, "use_cpu": True}
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "bf16": False}
    return kind(output_dir=str(folder), **common | quiet | settings)


def sft_trainer(folder: Path, output: Path, row: Callable[[int], Any] = prompted, **settings: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    trainer = trl.SFTTrainer(
        str(folder),
        arguments(trl.SFTConfig, output, **settings),
        train_dataset=datasets.Dataset.from_list([row(index) for index in range(ROWS)]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.1),
    )
    trainer.data_collator = Recording(trainer.data_collator)
    return trainer


def classifier_trainer(folder: Path, output: Path, kind: Any = Trainer, **options: Any) -> Any:
    rows = [
        {"input_ids": [5 + (7 * index + place) % 30 for place in range(3 + index % 5)], "label": index % 3, "note": "?"}
        for index in range(ROWS)
    ]
    transformers.set_seed(0)
    trainer = kind(
        get_peft_model(tiny_bert(dropout=0.1), LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")),
        arguments(TrainingArguments, output),
        train_dataset=datasets.Dataset.from_list(rows),
        data_collator=Recording(DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder, pad_token="</s>"))),
        **options,
    )
    return trainer


def examples_one_by_one(trainer: Any) -> Iterator[dict[str, Any]]:
    """The trainer's tokenised examples in their order: with no collator, no padding and no packing."""
    for row in trainer.train_dataset:
        if "label" in row:
            yield {"input_ids": torch.tensor([row["input_ids"]]), "labels": torch.tensor([row["label"]])}
            continue
        lengths = row.get("seq_lengths", [len(row["input_ids"])])
        parts = [torch.tensor([row[name]]).split(lengths, dim=1) for name in ("input_ids", "labels")]
        yield from ({"input_ids": ids, "labels": labels} for ids, labels in zip(*parts, strict=True))


def adapter(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters() if value.requires_grad}


def products(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weights[name.replace("lora_A", "lora_B")] @ weights[name] for name in weights if ".lora_A." in name}


MAKERS: dict[str, Callable[[Path, Path], Any]] = {
    "text": lambda folder, output: sft_trainer(folder, output, text),
    "prompt and completion": sft_trainer,
    "messages with tools": lambda folder, output: sft_trainer(folder, output, conversation, assistant_only_loss=True),
    "without checkpointing": lambda folder, output: sft_trainer(folder, output, gradient_checkpointing=False),
    "packed": lambda folder, output: sft_trainer(folder, output, packing=True, max_length=40),
    "padding-free": lambda folder, output: sft_trainer(folder, output, padding_free=True, max_length=None),
    "classifier": classifier_trainer,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_equals_the_call_on_the_same_examples(folder: Path, tmp_path: Path, kind: str) -> None:
    trainer = MAKERS[kind](folder, tmp_path)
    examples = list(examples_one_by_one(trainer))
    assert len(examples) == ROWS
    report = initialize_from_trainer(trainer, PARAMETERS, progress=False)
    assert report.examples == report.population_size == ROWS
    found = products(adapter(trainer))
    config = dataclasses.replace(PARAMETERS, population_size=ROWS)
    with pytest.warns(UserWarning, match="lora_B was not zero"):
        expected = initialize_lora_da_weights(trainer.model, examples, config, progress=False)
    assert report.loss_before == pytest.approx(expected.loss_before, rel=1e-5)
    assert report.loss_after == pytest.approx(expected.loss_after, rel=1e-5)
    for name, wanted in products(adapter(trainer)).items():
        assert float((found[name] - wanted).norm() / wanted.norm()) < 1e-4, name


@pytest.mark.parametrize("kind", MAKERS)
def test_training_afterwards_is_the_one_without_the_call(folder: Path, tmp_path: Path, kind: str) -> None:
    """From the same adapter, it sees the same batches and ends at the same weights, dropout included."""
    states = []
    for called in (True, False):
        trainer = MAKERS[kind](folder, tmp_path)
        modes = [module.training for module in trainer.model.modules()]
        frozen = [parameter.requires_grad for parameter in trainer.model.parameters()]
        rows = trainer.train_dataset
        before = random.getstate(), repr(numpy.random.get_state(legacy=False)), torch.get_rng_state().tolist()
        if called:
            initialize_from_trainer(trainer, max_examples=8, progress=False)
            start = adapter(trainer)
        else:
            with torch.no_grad():
                for name, value in start.items():
                    trainer.model.get_parameter(name).copy_(value)
        assert before == (random.getstate(), repr(numpy.random.get_state(legacy=False)), torch.get_rng_state().tolist())
        assert modes == [module.training for module in trainer.model.modules()]
        assert frozen == [parameter.requires_grad for parameter in trainer.model.parameters()]
        assert trainer.accelerator._dataloaders == []
        assert trainer.train_dataset is rows
        trainer.data_collator.batches.clear()
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        states.append((trainer.data_collator.batches, losses, adapter(trainer)))
    assert any(not torch.equal(start[name], states[0][2][name]) for name in start)
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_activations_are_checkpointed_if_training_will(folder: Path, tmp_path: Path) -> None:
    """Else the initialisation would need more memory than training. A checkpointed layer runs forward twice."""
    for checkpointing, calls in ((True, 2), (False, 1)):
        trainer = sft_trainer(folder, tmp_path, gradient_checkpointing=checkpointing)
        seen: list[Any] = []
        layer = trainer.model.get_base_model().model.layers[0].self_attn
        layer.register_forward_hook(lambda *_, seen=seen: seen.append(torch.is_grad_enabled()))
        initialize_from_trainer(trainer, max_examples=12, measure_loss=False, progress=False)
        assert sum(seen) == 3 * calls  # the others find the loss out


def test_the_sample_is_random_and_its_seed_the_trainers(folder: Path, tmp_path: Path) -> None:
    trainer = sft_trainer(folder, tmp_path)

    def sample(seed: int, count: int = 6) -> list[Any]:
        batches = calibration_batches(trainer, count, seed)
        assert [len(batch["input_ids"]) for batch in batches] == [4, 2][: len(batches)]
        return [[token for token in row if token] for batch in batches for row in batch["input_ids"].tolist()]

    rows = [[token for token in row if token] for row in trainer.train_dataset["input_ids"]]
    first = sample(5)
    assert first == sample(5) != sample(6)
    assert first[:4] == sample(5, 4)  # any beginning is a random sample
    places = [rows.index(row) for row in first]
    assert len(set(places)) == 6
    assert places != sorted(places)
    trainer.data_collator.batches.clear()
    report = initialize_from_trainer(trainer, max_examples=6, progress=False)
    assert (report.examples, report.population_size) == (6, ROWS)
    given = [row[:1] for batch in trainer.data_collator.batches for row in batch["input_ids"].tolist()]
    assert given == [row[:1] for row in first]


def test_a_collator_that_draws_random_numbers_is_seeded(folder: Path, tmp_path: Path) -> None:
    trainer = classifier_trainer(folder, tmp_path)
    collate = trainer.data_collator.collator
    trainer.data_collator = lambda rows: collate(rows) | {"drawn": torch.rand(len(rows))}
    first = calibration_batches(trainer, 4, 0)
    torch.rand(1)
    torch.testing.assert_close(first, calibration_batches(trainer, 4, 0), rtol=0, atol=0)


def test_a_sample_of_packed_rows_has_the_examples_asked_for(folder: Path, tmp_path: Path) -> None:
    trainer = MAKERS["packed"](folder, tmp_path)
    rows = [row["input_ids"] for row in trainer.train_dataset]
    assert max(map(len, trainer.train_dataset["seq_lengths"])) > 1
    batches = calibration_batches(trainer, 5, 0)
    read = [token for batch in trainer.data_collator.batches for row in batch["input_ids"].tolist() for token in row]
    found = [token for batch in batches for row in batch["input_ids"].tolist() for token in row]
    assert read[: len(found)] == found
    assert found[: len(rows[0])] != rows[0]
    assert sum(int((batch["position_ids"] == 0).sum()) for batch in batches) == 5
    assert initialize_from_trainer(trainer, max_examples=5, progress=False).examples == 5


def test_an_iterable_data_set_gives_its_first_examples(folder: Path, tmp_path: Path) -> None:
    trainer = classifier_trainer(folder, tmp_path)
    rows = list(trainer.train_dataset)
    trainer.train_dataset = trainer.train_dataset.to_iterable_dataset()
    batches = calibration_batches(trainer, 6, 0)
    assert [label for batch in batches for label in batch["labels"].tolist()] == [row["label"] for row in rows[:6]]
    assert all("note" not in batch for batch in batches)
    assert count_examples(trainer) is None
    assert list(islice(trainer.train_dataset, 6)) == rows[:6]

    class Once(torch.utils.data.IterableDataset[Any]):
        def __init__(self) -> None:
            self.rows = iter(rows)

        def __iter__(self) -> Iterator[Any]:
            return self.rows

    trainer.train_dataset = Once()
    with pytest.raises(ValueError, match="can be read only once"):
        calibration_batches(trainer, 6, 0)
    assert next(trainer.train_dataset.rows) == rows[0]


class OwnLoss(Trainer):
    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        return 2 * model(**inputs).loss


def test_losses_of_the_trainers_own(folder: Path, tmp_path: Path) -> None:
    def halved(output: Any, batch: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(output.logits, batch["labels"], reduction="none") / 2

    def run(trainer: Any, **options: Any) -> InitializationReport:
        return initialize_from_trainer(trainer, max_examples=4, progress=False, **options)

    plain = run(classifier_trainer(folder, tmp_path))
    trainer = classifier_trainer(folder, tmp_path, OwnLoss)
    with pytest.raises(ValueError, match=r"loss is its own \(OwnLoss.compute_loss\).* give example_loss"):
        run(trainer)
    given = run(trainer, example_loss=halved)
    assert given.loss_before == pytest.approx(plain.loss_before / 2)  # type: ignore[operator]

    smoothed = [classifier_trainer(folder, tmp_path) for _ in range(2)]
    for trainer in smoothed:
        trainer.args.label_smoothing_factor = 0.1
    with pytest.warns(UserWarning, match=r"changes the loss by label_smoothing_factor=0\.1"):
        report = run(smoothed[0])
    assert report.loss_before == plain.loss_before
    assert "label_smoothing_factor" in report.notices[-1]
    assert not any("label_smoothing" in notice for notice in run(smoothed[1], example_loss=halved).notices)


def test_trainers_that_are_refused(folder: Path, tmp_path: Path) -> None:
    trainer = classifier_trainer(folder, tmp_path)
    before = adapter(trainer)

    def refused(message: str, **attributes: Any) -> None:
        changed = copy.copy(trainer)
        vars(changed).update(attributes)
        with pytest.raises(ValueError, match=message):
            initialize_from_trainer(changed, progress=False)

    refused("has no train_dataset", train_dataset=None)
    refused("or an empty one", train_dataset=trainer.train_dataset.select([]))
    with pytest.raises(TypeError, match=r"is a model, not a trainer: initialize_lora_da_weights\(model, dataloader\)"):
        initialize_from_trainer(trainer.model)
    refused("makes its model anew by model_init", model_init=lambda: None)
    refused("model has no adapter: .* peft_config", model=tiny_bert())
    refused("trains on answers that it generates itself", reward_funcs=[])
    refused("has trained 3 steps already", state=SimpleNamespace(global_step=3))
    plugin = SimpleNamespace(fsdp_plugin=SimpleNamespace(cpu_ram_efficient_loading=True))
    refused("cpu_ram_efficient_loading", accelerator=SimpleNamespace(state=plugin))
    with pytest.raises(ValueError, match="max_examples must be at least 1"):
        initialize_from_trainer(trainer, max_examples=0)
    torch.testing.assert_close(adapter(trainer), before, rtol=0, atol=0)
    next(trainer.model.parameters()).ds_id = 0
    refused("ZeRO-3 has parted the weights")

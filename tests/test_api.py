"""The calls that join the stages, from a PEFT model and data to an initialised adapter."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

import oracles
from lora_da import (
    CollectionConfig,
    InitializationReport,
    LoraDAConfig,
    collect_statistics,
    initialize_lora_da_weights,
    load_report,
    load_statistics,
    save_statistics,
)
from lora_da.adapter.layers import find_adapted_layers
from models import (
    Example,
    batches_of,
    causal_examples,
    classified_examples,
    collate,
    positionwise,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    tiny_t5,
    translated_examples,
    with_lora,
)
from presets import PARAMETERS, PRESETS
from reference import distance

EXAMPLES = causal_examples(12)
IN_PARAMETERS = {name: config for name, config in PRESETS.items() if config.metric == "parameters"}


def _initialize(
    model: Any, data: Any = None, config: LoraDAConfig | None = None, **options: Any
) -> InitializationReport:
    """With warnings off, since few examples always warn; by default with a B that they can't leave at zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return initialize_lora_da_weights(model, data, config or PARAMETERS, progress=False, **options)


def _loader(examples: list[Example], size: int = 4) -> DataLoader[Any]:
    data: Any = examples
    return DataLoader(data, batch_size=size, collate_fn=collate)


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _unchanged(model: nn.Module, before: dict[str, Tensor], part: str = "") -> bool:
    return all(torch.equal(p, before[name]) for name, p in model.named_parameters() if part in name)


# The written factors


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("preset", IN_PARAMETERS)
def test_written_factors_are_the_oracles(preset: str, rslora: bool) -> None:
    config = IN_PARAMETERS[preset]
    patterns: dict[str, Any] = {"rank_pattern": {"down_proj": 2, "q_proj": 3}, "alpha_pattern": {"o_proj": 5}}
    model = with_lora(tiny_llama().double(), use_rslora=rslora, **patterns)
    model.double()
    statistics = collect_statistics(model, batches_of(EXAMPLES), config.collection, progress=False)
    report = _initialize(model, config=config, statistics=statistics)
    layers, _ = find_adapted_layers(model, "default")
    assert report.layers.keys() == layers.keys()
    assert report.population_size == 1000
    for name, layer in layers.items():
        rank = 2 if name.endswith("down_proj") else 3 if name.endswith("q_proj") else 4
        alpha = 5 if name.endswith("o_proj") else 8
        s = alpha / rank**0.5 if rslora else alpha / rank
        wanted = oracles.solve(statistics[name], rank, config)
        if oracles.relative_gap(wanted.values, rank) < 1e-4:
            continue
        product = wanted.delta_A @ wanted.A  # Δ AᵀA
        if config.init_scale == "theory":
            product = product / s
        else:
            product = product / (torch.linalg.matrix_norm(wanted.delta, 2) * config.stable_gamma)
        assert distance(s * layer.B @ layer.A, s * product) <= 1e-6, name
        assert layer.rank == rank
        assert report.layers[name].scaling == pytest.approx(s)
        rows = torch.linalg.qr(layer.A.detach().T).Q.T
        assert oracles.largest_angle(rows, wanted.A) <= 1e-6

        gram = layer.A @ layer.A.T
        eye = torch.eye(rank, dtype=torch.float64)
        if config.init_scale == "theory":
            torch.testing.assert_close(gram, eye, rtol=0, atol=1e-9)
        else:
            torch.testing.assert_close(gram, eye / config.stable_gamma, rtol=0, atol=1e-9)


def test_the_default_writes_the_loss_oracles_rows_with_white_outputs() -> None:
    config = PRESETS["default"]
    model = with_lora(tiny_llama().double()).double()
    statistics = collect_statistics(model, batches_of(EXAMPLES), config.collection, progress=False)
    _initialize(model, config=config, statistics=statistics)
    for name, layer in find_adapted_layers(model, "default")[0].items():
        wanted = oracles.solve_in_loss_metric(statistics[name], 4, config)
        assert wanted.sizes[4] < 0.99 * wanted.sizes[3]
        rows, expected = (torch.linalg.qr(A.detach().T).Q.T for A in (layer.A, wanted.A))
        assert oracles.largest_angle(rows, expected) <= 2e-3
        Z = statistics[name].input_sum / statistics[name].tokens
        eye = torch.eye(4, dtype=torch.float64)
        torch.testing.assert_close(layer.A @ Z @ layer.A.T / (Z.trace() / (3 * len(Z))), eye, rtol=0, atol=1e-6)
        assert not layer.B.any()  # there are no examples to search the step's length with


def test_enough_layers_are_compared_with_the_oracle() -> None:
    """The comparison above leaves out layers whose subspace is hardly determined; most are."""
    for config in IN_PARAMETERS.values():
        statistics = collect_statistics(tiny_llama(), batches_of(EXAMPLES), config.collection, progress=False)
        gaps = [oracles.relative_gap(oracles.solve(statistics[n], 4, config).values, 4) for n in statistics.layers]
        assert sum(gap >= 1e-4 for gap in gaps) >= 10


@pytest.mark.parametrize(
    ("make", "examples", "targets"),
    [
        (tiny_gpt2, EXAMPLES, ["c_attn", "c_fc", "c_proj"]),
        (tiny_bert, classified_examples(12), ["query", "key", "value", "dense"]),
        (tiny_t5, translated_examples(12), ["q", "k", "v", "o", "wi", "wo"]),
    ],
)
def test_other_architectures(make: Any, examples: list[Example], targets: list[str]) -> None:
    model = with_lora(make(), target_modules=targets)
    before = _copies(model)
    report = _initialize(model, _loader(examples))
    layers, _ = find_adapted_layers(model, "default")
    assert report.layers.keys() | report.kept_default.keys() == layers.keys()
    assert len(report.layers) >= len(layers) - 2
    for name in report.layers:
        assert bool(layers[name].B.any())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if "lora_" not in name)
    assert report.loss_after is not None
    assert report.loss_before is not None
    assert report.loss_after < report.loss_before


# What stays as it was


def test_base_weights_parameters_and_flags_stay() -> None:
    model = with_lora(tiny_llama()).train()
    before, objects = _copies(model), dict(model.named_parameters())
    flags = {name: parameter.requires_grad for name, parameter in objects.items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    random_state = torch.get_rng_state()
    _initialize(model, _loader(EXAMPLES))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter is objects[name]
        assert parameter.requires_grad == flags[name]
        assert torch.equal(parameter, before[name]) == ("lora_" not in name), name
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for n, p in objects.items() if "lora_" in n}


_PLAIN_PEFT = """
import sys
import torch
from peft import PeftModel
sys.path.insert(0, sys.argv[1])
from models import tiny_llama
model = PeftModel.from_pretrained(tiny_llama(), sys.argv[2]).eval()
assert not any(name.split(".")[0] == "lora_da" for name in sys.modules)
with torch.no_grad():
    torch.save(model(torch.load(sys.argv[3])).logits, sys.argv[4])
"""


def test_plain_peft_loads_what_was_saved(tmp_path: Path) -> None:
    tokens = collate(EXAMPLES)["input_ids"]
    model = with_lora(tiny_llama(), use_rslora=True, rank_pattern={"q_proj": 2})
    report = _initialize(model, _loader(EXAMPLES))
    model.save_pretrained(str(tmp_path / "adapter"))
    report.save(tmp_path / "adapter")
    torch.save(tokens, tmp_path / "tokens")
    arguments = [Path(__file__).parent, tmp_path / "adapter", tmp_path / "tokens", tmp_path / "logits"]
    subprocess.run([sys.executable, "-c", _PLAIN_PEFT, *map(str, arguments)], check=True, timeout=120)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "logits"), model(tokens).logits)


# Statistics from elsewhere


def test_statistics_of_the_plain_model_give_the_same_result(tmp_path: Path) -> None:
    direct, indirect = with_lora(tiny_llama()), with_lora(tiny_llama())
    _initialize(direct, _loader(EXAMPLES))
    save_statistics(collect_statistics(tiny_llama(), _loader(EXAMPLES), progress=False), tmp_path / "s")
    report = _initialize(indirect, statistics=load_statistics(tmp_path / "s"))
    assert report.population_size == 12
    assert report.loss_after is None
    assert set(report.seconds) == {"solve"}
    assert _unchanged(indirect, _copies(direct))


def test_statistics_serve_any_rank_and_another_precision() -> None:
    statistics = collect_statistics(tiny_llama(), _loader(EXAMPLES), progress=False)
    model = with_lora(tiny_llama().bfloat16(), r=2, target_modules=["v_proj"])
    report = _initialize(model, statistics=statistics)
    assert len(report.layers) == 2
    layers, _ = find_adapted_layers(model, "default")
    for name, layer in layers.items():
        wanted = oracles.solve(statistics[name], 2, report.config)
        product = wanted.delta_A @ wanted.A / (torch.linalg.matrix_norm(wanted.delta, 2) * 1024)
        assert distance(layer.B @ layer.A, product) <= 0.02


def _mismatches() -> dict[str, tuple[Any, LoraDAConfig | None, str]]:
    statistics = collect_statistics(tiny_llama(), batches_of(EXAMPLES), progress=False)
    other = collect_statistics(tiny_llama(seed=1), batches_of(EXAMPLES), progress=False)
    wide = collect_statistics(tiny_llama(intermediate_size=32), batches_of(EXAMPLES), progress=False)
    wide = dataclasses.replace(wide, model=statistics.model)
    strange = collect_statistics(positionwise(), batches_of(EXAMPLES), progress=False)
    mean = LoraDAConfig(collection=CollectionConfig(loss_reduction="mean"))
    paper = dataclasses.replace(LoraDAConfig.paper(), population_size=9)
    return {
        "model": (other, None, "the statistics belong to another model"),
        "shapes": (wide, None, r"the statistics of layer .*mlp.* have shape \(\d+, \d+\), the layer has"),
        "layers": (dataclasses.replace(strange, model=statistics.model), None, "know none of the adapted layers"),
        "reduction": (statistics, mean, "collected with loss_reduction='sum', the settings ask for 'mean'"),
        "diagonal": (statistics, paper, r'collect with CollectionConfig\(output_factor="full"\)'),
        "population": (
            collect_statistics(tiny_llama(), batches_of(EXAMPLES), LoraDAConfig.paper().collection, progress=False),
            LoraDAConfig.paper(),
            "set LoraDAConfig.population_size",
        ),
        "nothing": (None, None, "give a data loader or statistics"),
    }


@pytest.mark.parametrize("name", ["model", "shapes", "layers", "reduction", "diagonal", "population", "nothing"])
def test_statistics_that_do_not_fit_change_nothing(name: str) -> None:
    statistics, config, message = _mismatches()[name]
    model = with_lora(tiny_llama(), trained=True)
    before = _copies(model)
    with pytest.raises(ValueError, match=message):
        _initialize(model, config=config, statistics=statistics)
    assert _unchanged(model, before)


def test_full_statistics_serve_the_default_and_population_sizes_are_found() -> None:
    full = collect_statistics(tiny_llama(), _loader(EXAMPLES), CollectionConfig(output_factor="full"), progress=False)
    diagonal = collect_statistics(tiny_llama(), _loader(EXAMPLES), progress=False)
    first, second = with_lora(tiny_llama()), with_lora(tiny_llama())
    _initialize(first, statistics=full)
    _initialize(second, statistics=diagonal)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-6)
    assert _initialize(with_lora(tiny_llama()), _loader(EXAMPLES), LoraDAConfig.paper()).population_size == 12
    own = dataclasses.replace(LoraDAConfig.paper(), population_size=5)
    assert _initialize(with_lora(tiny_llama()), _loader(EXAMPLES), own).population_size == 5


def test_an_unknown_population_is_an_error_where_it_decides_and_else_a_notice() -> None:
    for preset in (LoraDAConfig.paper(), LoraDAConfig.released()):
        model = with_lora(tiny_llama())
        before = _copies(model)
        with pytest.raises(ValueError, match=r"set LoraDAConfig\.population_size"):
            _initialize(model, batches_of(EXAMPLES), preset)
        assert _unchanged(model, before)
    report = _initialize(with_lora(tiny_llama()), batches_of(EXAMPLES))
    assert report.population_size is None
    assert any("the population size N is not known" in notice for notice in report.notices)
    known = _initialize(with_lora(tiny_llama()), _loader(EXAMPLES))
    assert not any("population" in notice for notice in known.notices)


# Data and adapters that can not be used


def _broken(*, after: int) -> Any:
    yield from batches_of(EXAMPLES, 2)[:after]
    raise OSError("the loader broke")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([], ValueError, "the data loader gave no batch"),
        ([{"input_ids": torch.ones(1, 3, dtype=torch.long)}], ValueError, "the batch has no labels"),
        ([[torch.ones(1)]], TypeError, "is a list"),
        (_broken(after=2), OSError, "the loader broke"),
    ],
)
def test_bad_data_change_nothing(data: Any, error: type[Exception], message: str) -> None:
    model = with_lora(tiny_llama(), trained=True).train()
    before, modes = _copies(model), [module.training for module in model.modules()]
    with pytest.raises(error, match=message):
        _initialize(model, data)
    assert _unchanged(model, before)
    assert [module.training for module in model.modules()] == modes


def test_adapters_that_can_not_be_served() -> None:
    for settings, message in (
        ({"r": 99}, "has rank 99, above its input width"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa', which changes the base"),
        ({"use_dora": True}, "no layer of the adapter can be initialised by LoRA-DA .*Dora"),
    ):
        model = with_lora(tiny_llama(), **settings)
        before = _copies(model)
        with pytest.raises(ValueError, match=message):
            _initialize(model, _loader(EXAMPLES))
        assert _unchanged(model, before)


def test_one_of_several_adapters() -> None:
    alone = with_lora(tiny_llama())
    wanted = _initialize(alone, _loader(EXAMPLES))
    model = with_lora(tiny_llama(), trained=True)
    model.add_adapter("second", LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"]))
    before = _copies(model)
    report = _initialize(model, _loader(EXAMPLES), adapter_name="second")
    assert model.active_adapter == "default"
    assert len(report.layers) == 4
    layers, _ = find_adapted_layers(model, "second")
    for name, layer in layers.items():
        expected = find_adapted_layers(alone, "default")[0][name]
        assert torch.equal(layer.A, expected.A)
        assert torch.equal(layer.B, expected.B)
    assert _unchanged(model, before, "default")
    assert report.loss_before == wanted.loss_before
    # The loss afterwards is that of the new adapter, although the other one is active.
    model.set_adapter("second")
    again = mean_loss(model)
    assert report.loss_after == pytest.approx(again, rel=1e-5)


def mean_loss(model: nn.Module) -> float:
    """The mean summed loss of the examples, one by one."""
    total = 0.0
    with torch.no_grad():
        for example in EXAMPLES:
            log_probabilities = torch.log_softmax(model(example["input_ids"][None]).logits[0, :-1], -1)
            labels = example["labels"][1:]
            total -= float(log_probabilities[labels != -100, labels[labels != -100]].sum())
    return total / len(EXAMPLES)


# Report


def test_losses_of_the_report_are_those_of_the_model(tmp_path: Path) -> None:
    model = with_lora(tiny_llama())
    report = _initialize(model, _loader(EXAMPLES))
    assert report.examples == 12
    assert report.loss_before == pytest.approx(mean_loss(tiny_llama()), rel=1e-5)
    assert report.loss_after == pytest.approx(mean_loss(model), rel=1e-5)
    assert not report.batch_dependent
    assert set(report.seconds) == {"statistics", "solve", "loss"}
    assert str(report).startswith("LoRA-DA: 14 layers initialised from 12 examples")
    report.save(tmp_path)
    assert load_report(tmp_path) == report
    labels = [int((example["labels"][1:] != -100).sum()) for example in EXAMPLES]
    assert report.label_tokens == sum(labels) / len(labels)


def test_the_loss_need_not_be_measured() -> None:
    model: Any = with_lora(tiny_llama())
    calls: list[int] = []
    model.base_model.model.model.layers[0].register_forward_hook(
        lambda *_: calls.append(1) if torch.is_grad_enabled() else None
    )
    report = _initialize(model, _loader(EXAMPLES), measure_loss=False)
    assert report.loss_after is None
    assert "loss" not in report.seconds
    assert len(calls) == 3


def test_the_settings_of_peft_are_none_of_the_library() -> None:
    with pytest.raises(TypeError, match=r"config must be a lora_da\.LoraDAConfig, not a LoraConfig: the rank"):
        initialize_lora_da_weights(with_lora(tiny_llama()), _loader(EXAMPLES), LoraConfig(r=2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (with_lora(tiny_llama()), EXAMPLES, LoraConfig(r=2)),
            r"a lora_da\.CollectionConfig, not a LoraConfig",
        ),
        ((with_lora(tiny_llama()), EXAMPLES, LoraDAConfig()), r"must be a lora_da\.CollectionConfig, not a LoraDA"),
        ((EXAMPLES, with_lora(tiny_llama())), "first argument must be the model"),
        ((tiny_llama(), None), "data must give batches"),
    ],
)
def test_arguments_of_other_kinds(arguments: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        collect_statistics(*arguments, progress=False)


def test_too_long_a_step_is_noticed() -> None:
    model = with_lora(tiny_llama())
    config = dataclasses.replace(PARAMETERS, stable_gamma=1e-3)
    report = _initialize(model, _loader(EXAMPLES), config)
    assert report.loss_after is not None
    assert report.loss_before is not None
    assert report.loss_after > report.loss_before
    assert any("the calibration loss rose from" in notice for notice in report.notices)


# Determinism


@pytest.mark.parametrize("preset", PRESETS)
def test_two_runs_agree_bit_for_bit(preset: str) -> None:
    first, second = with_lora(tiny_llama(), seed=1), with_lora(tiny_llama(), seed=2)
    assert not _unchanged(first, _copies(second))
    for model in (first, second):
        torch.rand(7)
        _initialize(model, _loader(EXAMPLES), PRESETS[preset])
    assert _unchanged(first, _copies(second))


def test_the_seed_acts_only_where_the_data_leave_a_choice() -> None:
    """Two tokens give a gradient of rank two in a layer of width 1100: the third direction is free."""
    examples = [{"input_ids": torch.tensor([5, 6, 7]), "labels": torch.tensor([-100, 6, 7])}]
    statistics = collect_statistics(positionwise(width=1100), batches_of(examples), progress=False)

    def rows(rank: int, seed: int) -> Tensor:
        model = with_lora(positionwise(width=1100), r=rank, target_modules=["once"])
        config = dataclasses.replace(
            PARAMETERS, sample_correction="none", variance_weight=0.0, init_scale="theory", seed=seed
        )
        _initialize(model, config=config, statistics=statistics)
        return find_adapted_layers(model, "default")[0]["once"].A.detach().double()

    assert oracles.largest_angle(rows(2, 0), rows(2, 1)) <= 1e-5
    assert torch.equal(rows(3, 0), rows(3, 0))
    assert oracles.largest_angle(rows(2, 0), rows(3, 1)) <= 1e-5
    assert oracles.largest_angle(rows(3, 0), rows(3, 1)) >= 0.1


# Wrappers and quantised bases


@pytest.mark.parametrize("order", ["compiled, then adapted", "adapted, then compiled"])
def test_compiled_models(order: str) -> None:
    wanted, model = with_lora(tiny_llama()), tiny_llama()
    _initialize(wanted, _loader(EXAMPLES))
    if order == "compiled, then adapted":
        compiled: Any = torch.compile(model, backend="eager")
        adapted: Any = with_lora(compiled)
    else:
        adapted = torch.compile(with_lora(model), backend="eager")
    report = _initialize(adapted, _loader(EXAMPLES))
    assert len(report.layers) == 14
    found = find_adapted_layers(adapted, "default")[0]
    for name, layer in find_adapted_layers(wanted, "default")[0].items():
        torch.testing.assert_close(found[name].B @ found[name].A, layer.B @ layer.A, rtol=1e-3, atol=1e-8)

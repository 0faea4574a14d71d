"""One family through the library, compared with plain autograd and plain PEFT."""

from __future__ import annotations

import copy
import dataclasses
import random
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn

import lora_da
from families.family import Example, Family
from families.reference import Sums, Truth, linear_names, truths_of
from presets import PARAMETERS

TOLERANCE = 1e-5
_LIBRARY = str(Path(lora_da.__file__).parent)

EXACT, ALL_ROWS, REFUSED, WRONG, CRASH = "exact", "exact, all rows counted", "refused", "WRONG", "CRASH"
NOT_RUN = "–"
_ORDER = (NOT_RUN, EXACT, ALL_ROWS, REFUSED, WRONG, CRASH)


@dataclass
class Verdict:
    """What came of one run, and why."""

    word: str
    reason: str = ""


@dataclass
class Row:
    """What came of a family.

    Attributes:
        name: Of the family.
        task: Its task.
        linear: How many linear layers the model has.
        served: How many of them have statistics, the output head among the targets where PEFT allows it.
        cells: The verdicts by column: "unpadded", "right", "left", "checkpointing", "initialised", and the worst of
            those with the output head among the targets, "head", where it is another.
        padding_seen: The sides on which padding changes the model's outputs.
        notes: What else is worth knowing.
    """

    name: str
    task: str
    linear: int = 0
    served: int = 0
    cells: dict[str, Verdict] = field(default_factory=dict)
    padding_seen: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """The worst of the cells."""
        return worst(self.cells.values())


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that weighs most; the first of equals."""
    return max(verdicts, key=lambda verdict: _ORDER.index(verdict.word), default=Verdict(NOT_RUN))


def check(family: Family) -> Row:
    """Run a family in all its variants.

    Raises:
        Exception: The family itself is broken: it can't be made, run or trained without the library.
    """
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _check(family)


def _check(family: Family) -> Row:
    model = family.model()
    linear = linear_names(model)
    row = Row(family.name, family.task, len(linear))
    layouts = _layouts(family, model, row)
    bodies, whole = _targets(family, model, linear)
    row.cells |= _variants(family, model, bodies, layouts, row)
    if len(whole) > len(bodies):
        try:
            _adapted(family, model, whole)
        except Exception as error:
            row.notes.append(f"PEFT does not adapt the output head ({_line(error)})")
        else:
            head = _variants(family, model, whole, layouts, row, checkpointing=False)
            kept = {column: row.cells.get(column) for column in head}
            row.cells["head"] = worst(verdict for column, verdict in head.items() if verdict != kept[column])
    return row


@dataclass
class _Layout:
    """One batch, and what its statistics should be."""

    batch: Example
    examples: int
    truths: list[Truth]  # any of them is right


def _layouts(family: Family, model: nn.Module, row: Row) -> dict[str, _Layout]:
    """The batches of a family by column, of those that the model itself can read."""
    equal = family.examples([max(family.lengths)] * len(family.lengths))
    unequal = family.examples(family.lengths)
    layouts = {}
    for column in ("unpadded", *family.paddings):
        examples, side = (equal, "right") if column == "unpadded" else (unequal, column)
        try:
            truths = truths_of(family, model, examples, side)
        except Exception as error:
            if column == "unpadded":
                raise
            row.cells[column] = Verdict(NOT_RUN)
            row.notes.append(f"the model itself can't be padded on the {side} ({_line(error)})")
            continue
        if truths[0].padding_seen and not family.couples_examples:
            row.padding_seen.append(column)
        layouts[column] = _Layout(family.batch_of(examples, side), len(examples), truths)
    return layouts


def _variants(
    family: Family,
    model: nn.Module,
    names: list[str],
    layouts: Mapping[str, _Layout],
    row: Row,
    *,
    checkpointing: bool = True,
) -> dict[str, Verdict]:
    """All runs with one set of target modules, by column."""
    cells = {}
    first = _adapted(family, model, names)
    adapted: PeftModel | None = first
    wanted, names = names, [name for name in names if _is_adapted(_inside(first).get_submodule(name))]
    if len(names) < len(wanted):
        missing = [name for name in wanted if name not in names]
        note = f"PEFT does not adapt {len(missing)} of the targets as layers, first {missing[0]}"
        row.notes += [note] if note not in row.notes else []
    for column, layout in layouts.items():
        adapted = adapted or _adapted(family, model, names)
        cells[column] = _collected(family, adapted, names, layout, row)
        if cells[column].word == CRASH or "changed" in cells[column].reason:
            adapted = None  # the next run shall not suffer from it
    last = layouts.get("right", layouts["unpadded"])
    if checkpointing:
        cells["checkpointing"] = _checkpointed(family, model, names, last, row)
    cells["initialised"] = _initialised(family, model, adapted or _adapted(family, model, names), names, last)
    return cells


def _checkpointed(family: Family, model: nn.Module, names: list[str], layout: _Layout, row: Row) -> Verdict:
    if not getattr(model, "supports_gradient_checkpointing", False):
        return Verdict(NOT_RUN)
    adapted = _adapted(family, model, names).train()
    try:
        _inside(adapted).gradient_checkpointing_enable()  # type: ignore[operator]
    except Exception as error:
        row.notes.append(f"no checkpointing ({_line(error)})")
        return Verdict(NOT_RUN)
    return _collected(family, adapted, names, layout, row)


def _targets(family: Family, model: nn.Module, linear: list[str]) -> tuple[list[str], list[str]]:
    """All linear layers that PEFT adapts but the output head; and with it."""
    linear = [name for name in linear if not any(part in name for part in family.left_out)]
    linear = [name for name in linear if not family.only or any(part in name for part in family.only)]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    bodies = [name for name in linear if model.get_submodule(name) is not head]
    return bodies or linear, linear


def _adapted(family: Family, model: nn.Module, names: list[str]) -> PeftModel:
    model = copy.deepcopy(model)
    widths = {name: _d_in(model.get_submodule(name)) for name in names}
    patterns = {} if family.narrow else {f"^{name}": width for name, width in widths.items() if width < family.rank}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        settings: dict[str, Any] = {
            "r": family.rank,
            "lora_alpha": 4,
            "target_modules": names,
            "rank_pattern": patterns,
        }
        adapted: Any = get_peft_model(model, LoraConfig(**settings | dict(family.adapt)), mixed=family.mixed)
        return adapted  # type: ignore[no-any-return]


def _inside(adapted: nn.Module) -> nn.Module:
    inside: nn.Module = adapted.get_submodule("base_model.model")
    return inside


def _is_adapted(module: nn.Module) -> bool:
    return isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper)


def _d_in(layer: nn.Module) -> int:
    weight = layer.get_parameter("weight")
    return weight.shape[1] if isinstance(layer, nn.Linear) else weight.shape[0]


def _collected(family: Family, adapted: PeftModel, names: list[str], layout: _Layout, row: Row) -> Verdict:
    batch = layout.batch
    given = family.wrap(adapted) if family.wrap else adapted
    modes = {module: module.training for module in adapted.modules()}
    _outputs(adapted.eval(), batch)  # what the model itself changes when it is called
    for module, mode in modes.items():
        module.training = mode
    with _unchanged(given) as changes, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            statistics = lora_da.collect_statistics(
                given, [batch], example_loss=family.example_loss, progress=False, max_examples=10**6
            )
        except Exception as error:
            return _refused_or_crashed(error)
    if family.wrap or family.mixed:  # a model of its own, whose names begin otherwise
        statistics = _renamed(statistics, names)
    row.served = max(row.served, sum(name in statistics.tokens for name in names))
    reported = "all rows" in " ".join(str(warning.message) for warning in caught)
    verdicts = [_judged(names, statistics, truth, reported=reported) for truth in layout.truths]
    verdict = min(verdicts, key=lambda verdict: (_ORDER.index(verdict.word), len(verdict.reason)))
    if statistics.examples != layout.examples:
        changes.append(f"{statistics.examples} examples instead of {layout.examples}")
    return Verdict(WRONG, "; ".join([*changes, verdict.reason])) if changes else verdict


def _renamed(statistics: Any, names: list[str]) -> Any:
    own = {
        name: next((one for one in names if name == one or name.endswith(f".{one}")), name)
        for name in statistics.tokens
    }
    own |= {name: own.get(name, name) for name in statistics.input_sums}
    changed = {
        part: {own[name]: value for name, value in getattr(statistics, part).items()}
        for part in ("gradient_sums", "output_sums", "input_sums", "tokens")
    }
    groups = {own[name]: own[group] for name, group in statistics.input_groups.items()}
    return dataclasses.replace(statistics, **changed, input_groups=groups)


def _judged(names: list[str], statistics: Any, truth: Truth, *, reported: bool) -> Verdict:
    problems = []
    if abs(statistics.loss_sum - truth.loss) > 1e-5 * abs(truth.loss) + 1e-9:
        problems.append(f"the loss is {statistics.loss_sum:.6g}, the model's own {truth.loss:.6g}")
    all_rows = False
    largest = max((float(gradient.norm()) for gradient in truth.gradients.values()), default=0.0)
    found: dict[str, list[str]] = {}
    for name in names:
        kind, whole = _compared(name, statistics, truth, largest, reported=reported)
        all_rows |= whole
        if kind:
            found.setdefault(kind, []).append(name)
    for name in set(statistics.layers) & set(truth.experts):
        gradient, wanted = statistics.gradient_sums[name], truth.experts[name]
        if min(_off(gradient, wanted), _off(gradient.T, wanted)) > TOLERANCE and float(wanted.norm()) > 1e-9 * largest:
            found.setdefault("G of an expert", []).append(name)
    problems += [f"{kind} in {len(layers)} of {len(names)} layers, first {layers[0]}" for kind, layers in found.items()]
    return Verdict(WRONG, "; ".join(problems)) if problems else Verdict(ALL_ROWS if all_rows else EXACT)


def _compared(name: str, statistics: Any, truth: Truth, largest: float, *, reported: bool) -> tuple[str, bool]:
    """What is wrong with a layer, and whether all of its rows were counted."""
    wanted = truth.gradients.get(name)
    if name in truth.bypassed:
        return "", False  # LoRA is not applied to what goes round the layer
    floor = 1e-9 * largest
    if name not in statistics.gradient_sums:
        lost = wanted is not None and float(wanted.norm()) > floor
        return ("no statistics, though there is a gradient" if lost else ""), False
    if wanted is None:
        return ("statistics, though there is no gradient" if bool(statistics.gradient_sums[name].any()) else ""), False
    layer = statistics[name]
    wrong = []
    if float((layer.gradient_sum.double() - wanted).norm()) > TOLERANCE * float(wanted.norm()) + floor:
        wrong.append("G")
    counted, everything = truth.counted.get(name, []), truth.everything.get(name)
    parts = min((_different(layer, sums) for sums in counted), key=len, default=["Z", "Y", "T"])
    whole = bool(parts) and everything is not None and not _different(layer, everything)
    if whole and not reported:
        wrong.append("all rows counted without a word")
    elif parts and not whole:
        wrong.append(
            ", ".join(parts) + (f" ({layer.tokens} rows, not {counted[0].tokens})" if counted and "T" in parts else "")
        )
    return ", ".join(wrong), whole


def _different(layer: Any, sums: Sums) -> list[str]:
    wrong = []
    if _off(layer.input_sum, sums.inputs) > TOLERANCE:
        wrong.append("Z")
    scale = float(sums.outputs.norm())
    if scale > 1e-25 and _off(layer.output_sum, sums.outputs) > 2 * TOLERANCE:
        wrong.append("Y")
    if layer.tokens != sums.tokens:
        wrong.append("T")
    return wrong


def _off(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    return float((found.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-30))


def _initialised(family: Family, model: nn.Module, adapted: PeftModel, names: list[str], layout: _Layout) -> Verdict:
    """Initialise, and compare step 0 with base + s·B·A, and with what plain PEFT loads."""
    batch, loss = layout.batch, layout.truths[0].loss / layout.examples
    given = family.wrap(adapted) if family.wrap else adapted
    before = _outputs(adapted, batch)
    with _unchanged(given, adapter=False) as changes:
        try:
            report = lora_da.initialize_lora_da_weights(
                given, [batch], PARAMETERS, example_loss=family.example_loss, progress=False, max_examples=10**6
            )
        except Exception as error:
            return _refused_or_crashed(error)
    problems = list(changes)
    if report.loss_before is not None and abs(report.loss_before - loss) > 1e-5 * abs(loss):
        problems.append(f"the report's loss is {report.loss_before:.6g}, the model's own {loss:.6g}")
    known = [*report.layers, *report.kept_default]
    missing = [name for name in names if not any(f".{one}".endswith(f".{name}") for one in known)]
    if missing:
        problems.append(f"{len(missing)} layers are not in the report, first {missing[0]}")
    adapted.eval()
    after = _outputs(adapted, batch)
    dense = copy.deepcopy(model)
    base = _inside(adapted)
    with torch.no_grad():
        for name in names:
            layer: Any = dense.get_submodule(name)
            wrapper: Any = base.get_submodule(name)
            A, B = wrapper.lora_A["default"].weight, wrapper.lora_B["default"].weight
            step = wrapper.scaling["default"] * B @ A
            if type(layer).__name__ == "Conv1D":
                step = step.T
            layer.weight = nn.Parameter(layer.weight + step)
        for name, module in base.named_modules():
            if isinstance(module, ParamWrapper):  # PEFT's own product: how experts lie there is up to it
                owner = dense.get_submodule(name.replace(".base_layer", ""))
                getattr(owner, module.parameter_name).add_(module.get_delta_weight("default"))
    if not _close(after, _outputs(dense, batch)):
        problems.append("step 0 is not base + s·B·A")
    if report.layers and all(_same(one, other) for one, other in zip(before, after, strict=True)):
        problems.append("the adapter has no effect on the model's outputs")
    if not family.mixed and not _reloads(adapted, model, batch, after):
        problems.append("plain PEFT reloads another adapter")
    return Verdict(WRONG, "; ".join(problems)) if problems else Verdict(EXACT)


def _reloads(adapted: PeftModel, model: nn.Module, batch: Example, after: list[Tensor]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        adapted.save_pretrained(folder)
        again = PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()
    own = {name: tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    loaded = again.state_dict()
    same = all(torch.equal(tensor, loaded[name]) for name, tensor in own.items())
    return same and _close(_outputs(again, batch), after)  # a product's last bit can hang on where its factors lie


def _outputs(model: nn.Module, batch: Example) -> list[Tensor]:
    """All numbers that the model gives, from the same random state, without the kernel of torch that skips LoRA."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        output = model(**batch)
    torch.backends.mha.set_fastpath_enabled(fused)
    return list(_tensors(output))


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            if key != "past_key_values":
                yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def _close(found: list[Tensor], wanted: list[Tensor]) -> bool:
    def near(one: Tensor, other: Tensor) -> bool:
        one, other = one.nan_to_num(neginf=0, posinf=0).double(), other.nan_to_num(neginf=0, posinf=0).double()
        return float((one - other).norm()) <= TOLERANCE * float(other.norm()) + 1e-9

    return len(found) == len(wanted) and all(near(one, other) for one, other in zip(found, wanted, strict=True))


@contextmanager
def _unchanged(model: nn.Module, *, adapter: bool = True) -> Iterator[list[str]]:
    """Compare a model before and after, and all random states: yields what differs, at the end."""
    changes: list[str] = []
    parts: dict[str, Callable[[], Any]] = {
        "a base weight or buffer": lambda: {
            name: tensor.clone() for name, tensor in model.state_dict().items() if adapter or "lora_" not in name
        },
        "requires_grad": lambda: {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "a hook or a forward method": lambda: {name: _hooks(module) for name, module in model.named_modules()},
        "a mode or rate": lambda: {name: _settings(module) for name, module in model.named_modules()},
        "a gradient": lambda: {name: parameter.grad is None for name, parameter in model.named_parameters()},
        "a random state": lambda: (
            torch.get_rng_state(),
            random.getstate(),
            numpy.random.get_state(legacy=False)["state"],
        ),
    }
    torch.manual_seed(3)
    before = {part: get() for part, get in parts.items()}
    try:
        yield changes
    finally:
        changes += [f"{part} has changed" for part, get in parts.items() if not _same(before[part], get())]


def _hooks(module: nn.Module) -> tuple[Any, ...]:
    own = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (*(tuple(getattr(module, name)) for name in own), vars(module).get("forward"))


def _settings(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, bool | int | float | str)}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other) or bool(
            one.shape == other.shape and ((one == other) | (one.isnan() & other.isnan())).all()
        )
    if isinstance(one, numpy.ndarray):
        return bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other or one != one)


def _refused_or_crashed(error: Exception) -> Verdict:
    """A refusal is an error that the library itself raises; another's that passes through it is a crash."""
    origin: BaseException = error
    while origin.__cause__ is not None and str(origin).endswith(str(origin.__cause__)):
        origin = origin.__cause__
    frames = traceback.extract_tb(origin.__traceback__)
    last = next((frame for frame in reversed(frames) if frame.filename.startswith(_LIBRARY)), frames[-1])
    refused = isinstance(origin, ValueError | TypeError | NotImplementedError) and frames[-1] is last
    where = f"{Path(last.filename).name}:{last.lineno}"
    if refused and isinstance(origin, ValueError):
        return Verdict(REFUSED, _line(error))
    return Verdict(CRASH, f"{type(origin).__name__}: {_line(origin)} [{where}]")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

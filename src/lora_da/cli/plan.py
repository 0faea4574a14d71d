"""``lora-da plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lora_da.cli import options
from lora_da.cli.early_checks import check_plan
from lora_da.cli.stopping import keeping
from lora_da.loading.model_source import ModelSource
from lora_da.system.sizes import format_size, parse_size
from lora_da.workflows.settings import AdapterShape, Calibration

if TYPE_CHECKING:
    from lora_da.workflows.plan import Plan


@options.with_fields
def plan(
    model: ModelSource,
    shape: AdapterShape,
    calibration: Calibration,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of an example; all are taken to be as long.")] = 512,
    preset: options.Preset = options.DEFAULT_PRESET,
    device_memory: Annotated[
        str | None, typer.Option(help="Plan for a GPU with so much memory, such as 24GiB, and not for this machine.")
    ] = None,
    host_memory: Annotated[
        str | None, typer.Option(help="The memory beside that GPU; the default is what is free here.")
    ] = None,
) -> None:
    """Say what initialising MODEL will take: memory, passes over the data, time. Only its configuration is read.

    `lora-da init --dry-run` says the same for the examples that you have.
    """
    check_plan(model, preset)
    if host_memory is not None and device_memory is None:
        raise typer.BadParameter("--host-memory goes with --device-memory")
    sizes = [None if size is None else parse_size(size) for size in (device_memory, host_memory)]
    from lora_da.workflows.plan import Machine, Workload, plan_initialization, this_machine
    from lora_da.workflows.settings import preset_config

    machine = this_machine(model.device)
    if sizes[0] is not None:
        machine = Machine("cuda", sizes[0], sizes[1] or machine.host_bytes)
    config, count = preset_config(preset, seed=0), calibration.examples
    workload = Workload(count, count * tokens, tokens, calibration.batch_size)
    with keeping():
        found = plan_initialization(model, shape, config, workload, machine, calibration.memory_budget)
    show_plan(found, timed=device_memory is None)


def show_plan(plan: Plan, *, timed: bool) -> None:
    """Print a plan; ``timed`` also says how long it takes on this machine, which is measured for a moment."""
    from lora_da.cli.show import show_table  # rich takes its time

    layers = [(kind, str(count), str(d_in), str(d_out)) for kind, (count, d_in, d_out) in plan.layers.items()]
    show_table(("layers", "count", "d_in", "d_out"), layers)
    work, where = plan.workload, "host" if plan.machine.device == "cpu" else "device"
    facts = [
        ("calibration examples", f"{work.examples:,}" + (f" of {work.rows:,} rows" if work.rows else "")),
        ("their tokens (longest example)", f"{work.tokens:,} ({work.longest:,})"),
        ("parameters of the base model", f"{plan.parameters:,}"),
        (f"free memory of the {where}", format_size(plan.machine.device_bytes)),
        *([("free memory of the host", format_size(plan.machine.host_bytes))] if where == "device" else []),
        ("memory: model", format_size(plan.model_bytes)),
        (f"memory: activations of {min(work.batch_size, work.examples)} examples", format_size(plan.activation_bytes)),
        ("memory: sums of all layers", format_size(plan.statistics_bytes)),
        ("memory: the solver", format_size(plan.solver_bytes)),
    ]
    if plan.memory is not None:
        facts += [("statistics", str(plan.memory)), (f"memory: {where}, together", format_size(plan.peak_bytes))]
    operations = f"{plan.collect_operations / 1e12:,.1f} · 10¹² for the statistics"
    facts.append(("operations", f"{operations}, {plan.solve_operations / 1e12:,.1f} · 10¹² in float64 to solve"))
    if timed:
        facts.append(("time on this machine, roughly", f"{plan.seconds():,.0f} s and the loading of the model"))
    show_table(("plan", ""), facts)
    if plan.problem:
        print(f"This does not fit: {plan.problem}.")
        raise typer.Exit(1)

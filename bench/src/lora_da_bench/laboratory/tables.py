"""The results as a table, and as one line of figures."""

from __future__ import annotations

from collections.abc import Sequence

from lora_da_bench.analysis.significance import Difference
from lora_da_bench.laboratory.results import REFERENCES, ArmResult, Cell

NOTHING = "–"
LEGEND = (
    "Test loss in nats per token, or per example of a class, at the arm's best learning rate (behind @; ^ where it is "
    "the highest of the grid, v the lowest), the mean over the seeds. Differences to other arms are the means over "
    "all domains ± their standard error, with intervals over seeds and test examples that hold for all of them at once "
    "(95 %); * where zero is excluded. The learning rates were selected on another split by the same seeds."
)


def tabulate(results: Sequence[ArmResult], domains: Sequence[str]) -> list[tuple[str, ...]]:
    """Tabulate the arms, the header first."""
    references = [name for name in REFERENCES if any(name in result.differences for result in results)]
    header = ("arm", "seeds", *domains, "mean", *(f"- {name.split('_')[0]}" for name in references), "diverged")
    return [header, *(_row(result, domains, references) for result in results)]


def _row(result: ArmResult, domains: Sequence[str], references: Sequence[str]) -> tuple[str, ...]:
    counts = sorted({len(cell.seeds) for cell in result.cells.values()})
    return (
        result.arm,
        "-".join(map(str, {counts[0]: 0, counts[-1]: 0})) if counts else NOTHING,
        *(_loss(result.cells.get(domain)) for domain in domains),
        f"{result.mean(domains):.4f}" if len(result.cells) == len(domains) else NOTHING,
        *(_difference(result.differences.get(name)) for name in references),
        str(result.diverged) if result.diverged else NOTHING,
    )


def _loss(cell: Cell | None) -> str:
    if cell is None:
        return NOTHING
    mark = {None: "", "low": "v", "high": "^"}[cell.edge]
    return f"{cell.losses.mean():.4f} @{cell.learning_rate:g}{mark}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return NOTHING
    if not difference.estimable:
        return f"{difference.mean:+.4f}"
    star = "*" if difference.excludes_zero else ""
    interval = f"[{difference.low:+.4f}, {difference.high:+.4f}]{star}"
    return f"{difference.mean:+.4f} ± {difference.standard_error:.4f} {interval}"


def write_figures(results: Sequence[ArmResult], domains: Sequence[str]) -> str:
    """Write the mean test losses over the domains as ``name=value``; "nan" where runs are missing or diverged."""
    return " ".join(f"{result.arm}={result.mean(domains):.4f}" for result in results)

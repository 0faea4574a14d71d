"""The loss of the calibration examples, measured beside the work: where it fails, what was made stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lora_da.adapter.activation import adapters_disabled, only_adapter_active
from lora_da.pipeline.calibration_source import CalibrationSource
from lora_da.report.notices import LOSS_NOT_MEASURED
from lora_da.statistics.calibration_loss import measure_calibration_loss

Losses = tuple[float | None, float | None]
"""The mean loss of the calibration examples without the adapter and with it, in nats, as far as it was measured."""

_LONGEST = 300  # characters of an error that are told


class MeasurementError(RuntimeError):
    """The loss could not be measured; the message says why in one line, the same in all processes of a job."""


@contextmanager
def noting_failure(notices: list[str], notice: str) -> Iterator[None]:
    """Go on where a loss can't be measured, and add that to some notices.

    Args:
        notices: What the user should know so far.
        notice: What to add, with ``{}`` where the error goes.
    """
    try:
        yield
    except MeasurementError as error:
        notices.append(notice.format(error))


def measure_losses(source: CalibrationSource, adapter_name: str, notices: list[str], *, before: float | None) -> Losses:
    """Return the mean loss of the calibration examples without the adapter and with it; a failure is a notice more.

    They are measured as those of the statistics, whose collection may have seen the one ``before`` already.
    """
    after = None
    with noting_failure(notices, LOSS_NOT_MEASURED):
        if before is None:
            with adapters_disabled(source.base):
                before = measure_loss(source)
        with only_adapter_active(source.base, adapter_name):
            after = measure_loss(source)
    return before, after


def measure_loss(source: CalibrationSource, *, of_first_process: bool = False) -> float:
    """Return the mean loss of the examples of all processes, or of the first one's, in nats, with adapters as they are.

    All processes have to call, and get the same.

    Raises:
        MeasurementError: It failed in one of them. Where they share the weights, that one raises its own error, since
            the others wait for its part and can't be told.
        ProcessError: A process is gone.
    """
    total, count, fault = 0.0, 0, None
    try:
        total, count = measure_calibration_loss(
            source.objective,
            source.batches,
            progress=source.progress,
            repeats=source.repeats_of(len(source.batches)),
            agree=source.any_needs,
        )
    except Exception as error:  # whatever it is, memory or a loss of the user's own
        if source.sharded:
            raise
        fault = f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST]}"
    if source.processes is None:
        if fault is not None:
            raise MeasurementError(fault)
        return total / count
    parts = source.processes.gather_objects((total, count, fault), "measuring the loss")
    faults = [f"process {rank}: {fault}" for rank, (*_, fault) in enumerate(parts) if fault is not None]
    if faults:
        raise MeasurementError("; ".join(faults))
    counted = parts[:1] if of_first_process else parts
    return float(sum(part[0] for part in counted) / sum(part[1] for part in counted))

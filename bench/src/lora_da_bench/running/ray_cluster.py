"""Runs spread over the GPUs or machines of a Ray cluster."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lora_da.system.extras import need
from lora_da_bench.experiment.description import Experiment
from lora_da_bench.experiment.record import Run, RunRecord
from lora_da_bench.running.training_run import carry_out_run, record_failure


def carry_out_on_ray(runs: Sequence[Run], experiment: Experiment, folder: Path) -> Iterator[RunRecord]:
    """Carry out runs on a Ray cluster, one GPU each where there are any, else one core each.

    Joins the cluster that ``RAY_ADDRESS`` names, or starts one on this machine. Models and data must be found under
    the same names on every machine; records come back here, in the order in which the runs end.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """
    need("--ray", "ray", distribution="lora-da-bench")
    ray: Any = importlib.import_module("ray")  # its types don't survive mypy's strictness
    if not ray.is_initialized():
        names = {name for path in _paths(experiment) for name in re.findall(r"\$\{?(\w+)", path)}
        variables = {name: os.environ[name] for name in names if name in os.environ}
        ray.init(log_to_driver=False, runtime_env={"env_vars": variables})
    resources = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    remote = ray.remote(**resources, max_retries=0)(carry_out_run)
    folder = folder.resolve()  # workers are elsewhere
    waiting = {remote.remote(run, experiment, folder): run for run in runs}
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        run = waiting.pop(ready)
        try:
            yield ray.get(ready)
        except ray.exceptions.RayError as error:  # the worker or its machine died
            yield record_failure(run, error)


def _paths(experiment: Experiment) -> list[str]:
    """All that may name an environment variable."""
    forgetting = [experiment.forgetting.data] if experiment.forgetting else []
    return [experiment.model.name, experiment.task.train, experiment.task.test, *forgetting]

"""What a description names: methods, the model and files, checked without reading them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lora_da.loading import ModelSource, check_data, check_model
from lora_da.system.files import refuse_existing, refuse_overlap
from lora_da_bench.experiment.description import Experiment, expand_path


def check_names(experiment: Experiment, folder: Path, only: Collection[str] = ()) -> None:
    """Refuse an experiment whose model or data are not there, or whose results would be written over them.

    Args:
        experiment: The experiment.
        folder: Of its results.
        only: The methods that are wanted alone.

    Raises:
        OSError: The model or data are not there, or the results can't be written.
        ValueError: A method of ``only`` is none of the experiment's, the model or data can't be used, or the results
            are or lie within them.
        ImportError: The model's precision or format needs what is not installed.
    """
    unknown = sorted(set(only) - set(experiment.methods))
    if unknown:
        raise ValueError(f"{unknown[0]} is none of the experiment's methods: {', '.join(experiment.methods)}")
    task, unrelated, model = experiment.task, experiment.forgetting, experiment.model
    named = {"the training data": task.train, "the test data": task.test}
    named |= {} if unrelated is None else {"the unrelated text": unrelated.data}
    read = {what: expand_path(name) for what, name in named.items()}
    source = ModelSource(expand_path(model.name), dtype=model.dtype, device=model.device, revision=model.revision)
    refuse_overlap({"the results": folder}, read | {"the model": source.path})
    refuse_existing(folder, overwrite=True)  # where it can't be written
    for name in read.values():
        check_data(name)
    check_model(source)

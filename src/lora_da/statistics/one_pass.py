"""One forward and one backward pass over the examples, with every parameter frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lora_da.config import CollectionConfig
from lora_da.statistics.accumulator import Accumulator, Place
from lora_da.statistics.batches.examples import batch_size, dataset_length, take_examples
from lora_da.statistics.batches.inputs import labels_of, model_inputs
from lora_da.statistics.batches.segments import Segments, segments_of
from lora_da.statistics.batches.separation import SeparationCheck
from lora_da.statistics.batches.token_rows import Positions, Rows, decoder_positions
from lora_da.statistics.estimation_mode import differentiable_embeddings, quiet, random_state_kept
from lora_da.statistics.hooks.experts import Layer, ParameterLayer
from lora_da.statistics.hooks.recorder import Recorder
from lora_da.statistics.losses.alignment import label_alignment, predicting_positions
from lora_da.statistics.losses.chunked import HiddenStates, chunked_losses, forward_losses, has_separate_head
from lora_da.statistics.losses.example_losses import ExampleLoss, example_losses
from lora_da.statistics.sums import ModelIdentity, Statistics

# Gradients of summed losses are of the order of 1e-3 and reach down to 1e-8, where float16 has no numbers left.
_FLOAT16_LOSS_SCALE = 1024.0


def collect(
    model: nn.Module,
    layers: Mapping[str, Layer],
    dataloader: Iterable[Mapping[str, Any]],
    config: CollectionConfig,
    *,
    max_examples: int,
    identity: ModelIdentity,
    example_loss: ExampleLoss | None = None,
    progress: bool = True,
    repeats: int = 0,
    entry: nn.Module | None = None,
    place: Place = "device",
    compensated: bool = False,
    description: str = "statistics",
    start: Statistics | None = None,
    after_batch: Callable[[Callable[[], Statistics]], None] | None = None,
) -> Statistics:
    """Collect the sums of the given layers over the first examples of a loader.

    Nothing of the model changes: its modes, its parameters' ``requires_grad``, its hooks and all random states are as
    before, also after an exception.

    Args:
        model: A model that returns logits, with no adapter active.
        layers: Linear layers of the model, by name.
        dataloader: Any iterable of mappings with ``labels`` and the model's inputs, with or without a length.
        config: What to collect.
        max_examples: How many examples to read.
        identity: Which model this is.
        example_loss: Each example's loss as a function of (model output, batch), for models whose loss is not known.
        progress: Whether to show a progress bar.
        repeats: How often the last batch is run once more without counting, to keep step with other processes.
        entry: What is called with the inputs: a module around the model that gathers sharded weights; by default the
            model.
        place: Where the sums are kept, see :class:`lora_da.statistics.accumulator.Accumulator`.
        compensated: Whether they carry along what rounding takes off them.
        description: What the progress bar says.
        start: What an earlier collection of the same layers has read before; its tensors may be taken over.
        after_batch: Called after each batch with a function that gives the statistics so far.

    Returns:
        The sums of the layers that the loss depends on.

    Raises:
        ValueError: There is no example, one without a label, a loss or sum that is not finite, or a batch that can't be
            used; the message says which.
    """
    scale = _FLOAT16_LOSS_SCALE if any(p.dtype == torch.float16 for p in model.parameters()) else 1.0
    accumulator = Accumulator(place, compensated=compensated)
    recorder = Recorder(layers, config, scale, accumulator)
    for name, layer in layers.items():
        if device_of(layer).type == "meta":
            raise ValueError(
                f"layer {name} is on the meta device: the model was made without weights, or device_map has offloaded "
                "them to the disk or the CPU, which is not supported; load it onto devices that hold it"
            )
    device = device_of(model)
    population = dataset_length(dataloader)
    examples, loss_sum = 0, 0.0
    if start is not None:
        examples, loss_sum = start.examples, start.loss_sum
        recorder.go_on_from(start, {name: device_of(layer) for name, layer in layers.items()}, place)

    def so_far() -> Statistics:
        accumulator.wait()
        reached = [name for name in layers if name in recorder.tokens]
        return Statistics(
            gradient_sums={name: recorder.gradient_sums[name] for name in reached},
            output_sums={name: recorder.output_sums[name] for name in reached},
            input_sums=recorder.input_sums,
            input_groups={name: recorder.input_groups[name] for name in reached},
            tokens={name: recorder.tokens[name] for name in reached},
            examples=examples,
            loss_sum=loss_sum,
            config=config,
            model=identity,
            population_size=population,
            batch_dependent=_couples_examples(model, example_loss),
        )

    with (
        random_state_kept(dataloader),
        quiet(model),
        recorder.attached(),
        differentiable_embeddings(model),
        tqdm(
            total=examples + min(max_examples, population or max_examples),
            initial=examples,
            desc=description,
            unit="example",
            disable=not progress,
        ) as bar,
    ):
        separation = SeparationCheck(model, entry or model, device)
        for batch in take_examples(dataloader, max_examples):
            try:
                separation.check(batch)
                losses = _one_batch(model, entry or model, batch, device, config, recorder, example_loss, scale)
            except ValueError as error:
                raise ValueError(f"in the batch that starts at example {examples}: {error}") from error
            loss_sum += float(losses.sum())
            examples += len(losses)
            bar.update(batch_size(batch))
            if after_batch is not None:
                after_batch(so_far)
        for _ in range(repeats):
            spare = Recorder(layers, config, loss_scale=scale)
            with spare.attached():
                _one_batch(model, entry or model, batch, device, config, spare, example_loss, scale)
    if examples == 0:
        raise ValueError("the data loader gave no batch: there is nothing to estimate from")
    statistics = so_far()
    accumulator.finish()
    _check_sums(recorder)
    return statistics


def calibration_loss(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    config: CollectionConfig,
    device: torch.device,
    example_loss: ExampleLoss | None = None,
    *,
    progress: bool = True,
    repeats: int = 0,
    entry: nn.Module | None = None,
) -> tuple[float, int]:
    """The summed loss of the examples of some batches, in nats, by forward passes alone, and their number.

    Args:
        model: As in :func:`collect`, but with adapters as they are.
        batches: What the model is called with.
        config: Its ``loss_reduction`` counts.
        device: Where the inputs go.
        example_loss: As in :func:`collect`.
        progress: Whether to show a progress bar.
        repeats: As in :func:`collect`.
        entry: As in :func:`collect`.
    """
    total, examples = 0.0, 0
    with random_state_kept(), quiet(model), torch.no_grad():
        separation = SeparationCheck(model, entry or model, device)
        for batch in tqdm(batches, desc="loss after the init", unit="batch", disable=not progress):
            separation.check(batch)
            inputs = model_inputs(model, batch, device)
            if entry in (None, model) and example_loss is None:
                losses = forward_losses(model, inputs, labels_of(batch), config.loss_reduction, segments_of(batch))
            else:
                losses = _losses(model, (entry or model)(**inputs), batch, config, example_loss)
            total, examples = total + float(losses.sum()), examples + len(losses)
        for _ in range(repeats):
            (entry or model)(**model_inputs(model, batch, device))
    return total, examples


def device_of(layer: Layer) -> torch.device:
    """Where a layer's parameters are, or its buffers (some quantised layers have no parameter)."""
    if isinstance(layer, ParameterLayer):
        layer = layer.module
    return next(chain(layer.parameters(), layer.buffers())).device


def _one_batch(
    model: nn.Module,
    entry: nn.Module,
    batch: Mapping[str, Any],
    device: torch.device,
    config: CollectionConfig,
    recorder: Recorder,
    example_loss: ExampleLoss | None,
    scale: float,
) -> Tensor:
    inputs, segments = model_inputs(model, batch, device), segments_of(batch)
    predicting = None
    if config.counted_tokens == "labels":
        if example_loss is not None:
            raise ValueError('counted_tokens="labels" is not known for an example_loss of your own; use "attended"')
        if (alignment := label_alignment(model)) == "example":
            raise ValueError('counted_tokens="labels" needs a label per token; this loss has one per example')
        predicting = predicting_positions(labels_of(batch).to(device), alignment, segments)
    labels = batch.get("labels")
    known = inputs | {"labels": labels.to(device)} if isinstance(labels, Tensor) else inputs
    with (
        _rows(model, known, batch_size(batch), predicting, segments) as rows_of,
        recorder.batch(rows_of),
        torch.enable_grad(),
    ):
        gradient, hidden = None, None
        if entry is model and example_loss is None and has_separate_head(model, recorder.layers):
            hidden = HiddenStates.of(model, inputs)
        if hidden is not None:
            losses, gradient = chunked_losses(hidden, labels_of(batch), config.loss_reduction, scale, segments)
        else:
            losses = _losses(model, entry(**inputs), batch, config, example_loss)
        finite = torch.isfinite(losses.detach())
        if not bool(finite.all()):
            raise ValueError(
                f"the loss of example(s) {(~finite).nonzero().flatten().tolist()} is not finite. Look at these "
                "examples, or use bfloat16 or float32 if the model is in float16."
            )
        if hidden is not None and gradient is not None:
            hidden.states.backward(gradient)
        elif losses.requires_grad:  # not so where none of the layers was reached
            (losses.sum() * scale).backward()
    return losses.detach()


def _losses(
    model: nn.Module,
    output: Any,
    batch: Mapping[str, Any],
    config: CollectionConfig,
    example_loss: ExampleLoss | None,
) -> Tensor:
    if example_loss is None:
        alignment, segments = label_alignment(model), segments_of(batch)
        return example_losses(output.logits, labels_of(batch), alignment, config.loss_reduction, segments)
    losses = example_loss(output, batch)
    if losses.ndim != 1:
        raise ValueError(f"example_loss must return one loss an example, (B,), not {tuple(losses.shape)}")
    segments = segments_of(batch)
    if segments is not None and len(losses) != segments.count:
        raise ValueError(
            f"example_loss returned {len(losses)} losses of a packed batch of {segments.count} examples: return one an "
            "example, in the order of their positions, or unpack the examples"
        )
    return losses


@contextmanager
def _rows(
    model: nn.Module,
    inputs: Mapping[str, Any],
    examples: int,
    predicting: Tensor | None,
    segments: Segments | None = None,
) -> Iterator[Any]:
    """Yield the function that says which rows of a layer's input count, in this batch."""
    mask = inputs.get("attention_mask")
    mask = None if mask is None else mask.bool()
    if segments is not None:
        of_examples = (segments.numbers >= 0).to(device_of(model))
        mask = of_examples if mask is None else mask & of_examples
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        positions = Positions(examples, mask, predicting)
        yield lambda layer, tensor: positions.rows(layer, tensor.shape)
        return

    # Labels belong to the decoder; "labels" counts the encoder's attended positions.
    encoder_side = Positions(examples, mask)
    decoder_side = decoder_positions(inputs, examples, predicting)
    encoder = model.get_encoder()  # type: ignore[operator]
    prefix = next(name for name, module in model.named_modules() if module is encoder) + "."
    encoder_output: list[Tensor] = []
    handle = encoder.register_forward_hook(lambda _module, _args, output: encoder_output.append(output[0]))

    def rows_of(layer: str, tensor: Tensor) -> Rows:
        # Cross-attention's keys and values see the encoder's output, under reentrant checkpointing a detached twin.
        of_encoder = layer.startswith(prefix) or any(
            tensor.data_ptr() == seen.data_ptr() and tensor.shape == seen.shape for seen in encoder_output
        )
        return (encoder_side if of_encoder else decoder_side).rows(layer, tensor.shape)

    try:
        yield rows_of
    finally:
        handle.remove()


def _check_sums(recorder: Recorder) -> None:
    for name, group in recorder.input_groups.items():
        if name in recorder.tokens and recorder.tokens[name] != recorder.input_tokens[group]:
            raise ValueError(f"layers {name} and {group} share their input, but not the tokens with a gradient")
    sums = recorder.gradient_sums | {f"the input of {group}": value for group, value in recorder.input_sums.items()}
    if not sums:
        return
    finite = torch.stack([torch.isfinite(value.sum()).cpu() for value in sums.values()])
    if not bool(finite.all()):
        bad = [name for name, good in zip(sums, finite.tolist(), strict=True) if not good]
        raise ValueError(
            f"the sums of {len(bad)} layers are not finite, first {bad[0]}: activations or gradients overflow. "
            "Use bfloat16 or float32."
        )


def _couples_examples(model: nn.Module, example_loss: ExampleLoss | None) -> bool:
    """Whether the loss says so, or the model normalises over the batch even in evaluation mode."""
    return bool(getattr(example_loss, "batch_dependent", False)) or any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats
        for module in model.modules()
    )

"""Small setups to try methods on, and what is computed from them without the library: logits, factors, gradients."""

from __future__ import annotations

import copy
import warnings
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor

from lora_da_bench.methods.method import Setup
from lora_da_bench.methods.registry import get_method
from models import batches_of, causal_examples, classified_examples, tiny_bert, tiny_gpt2, tiny_llama

RANK = 4
_TIMES = 48
_MAKERS: dict[str, tuple[Any, str, Any]] = {
    "llama": (tiny_llama, "CAUSAL_LM", causal_examples),
    "gpt2": (tiny_gpt2, "CAUSAL_LM", causal_examples),
    "bert": (tiny_bert, "SEQ_CLS", classified_examples),
}
KINDS = list(_MAKERS)


class Layer(NamedTuple):
    """What a layer holds: W as (d_out, d_in), A, B and s; float64."""

    W: Tensor
    A: Tensor
    B: Tensor
    s: float


def setup_of(
    kind: str = "llama", seed: int = 0, data_seed: int = 0, dtype: torch.dtype = torch.float32, **lora: Any
) -> Setup:
    make, task, examples = _MAKERS[kind]
    settings: dict[str, Any] = {
        "r": RANK,
        "lora_alpha": 8,
        "target_modules": "all-linear",
        "task_type": task,
        "use_rslora": True,
    }
    # Few examples, many times: as if so many were alike that their gradient stands out from the noise.
    batches = batches_of([example for example in examples(4, data_seed) for _ in range(_TIMES)], size=_TIMES)
    return Setup(make().to(dtype), LoraConfig(**(settings | lora)), batches, 1000, seed)


def initialised(name: str, setup: Setup) -> Any:
    """The method's model, with warnings off: so few examples always warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(setup.seed)
        return get_method(name).initialise(setup)


def logits_of(model: Any, setup: Setup) -> Any:
    with torch.no_grad():
        return model(**{key: value for key, value in setup.batches[0].items() if key != "labels"}).logits.float()


def weight_of(module: Any) -> Any:
    weight = module.weight.detach().double()
    return weight.T if type(module).__name__ == "Conv1D" else weight


def layers_in(model: Any) -> dict[str, Layer]:
    modules = model.get_base_model().named_modules()
    adapted: list[tuple[str, Any]] = [(name, module) for name, module in modules if isinstance(module, LoraLayer)]
    return {
        name: Layer(
            weight_of(module.get_base_layer()),
            module.lora_A["default"].weight.detach().double(),
            module.lora_B["default"].weight.detach().double(),
            module.scaling["default"],
        )
        for name, module in adapted
    }


def base_weights(setup: Setup, names: Any) -> dict[str, Tensor]:
    """The weights as they are now: to be called before a method."""
    return {name: weight_of(setup.model.get_submodule(name)) for name in names}


def adapted_names(setup: Setup) -> list[str]:
    """Which layers an adapter adapts, found on a copy."""
    return list(layers_in(initialised("lora", copy.deepcopy(setup))))


def single_examples(setup: Setup) -> list[dict[str, Tensor]]:
    """Each example by itself, without padding."""
    examples = []
    for batch in setup.batches:
        for row, mask in enumerate(batch["attention_mask"].bool()):
            examples.append(
                {
                    key: value[row : row + 1] if value.ndim == 1 else value[row, mask][None]
                    for key, value in batch.items()
                }
            )
    return examples


def autograd_gradients(setup: Setup, names: Any, *, summed: bool = False) -> dict[str, Tensor]:
    """The weights' gradients of the mean over the examples of each example's mean (or summed) token loss."""
    model = copy.deepcopy(setup.model).double().requires_grad_(True)
    examples = single_examples(setup)
    for example in examples:
        counted = int((example["labels"][:, 1:] != -100).sum()) if summed else 1
        (model(**example).loss * counted / len(examples)).backward()
    gradients = {}
    for name in names:
        module = model.get_submodule(name)
        gradients[name] = module.weight.grad.T if type(module).__name__ == "Conv1D" else module.weight.grad
    return gradients


def inputs_of(setup: Setup, name: str) -> list[Tensor]:
    """The inputs (L, d_in) that a layer of the base model gets from each example by itself, in float64."""
    model = copy.deepcopy(setup.model).double()
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(
        lambda _module, args: seen.append(args[0].reshape(-1, args[0].shape[-1]))
    )
    with torch.no_grad():
        for example in single_examples(setup):
            model(**example)
    handle.remove()
    return seen


def top_part(matrix: Tensor, rank: int) -> Tensor:
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    return torch.as_tensor(U[:, :rank] * S[:rank] @ Vh[:rank])

"""What a base model is made of, in words and digests: what tells it from any other that would compute something else.

Seen are each module's class and what it says of itself, the configuration, and every parameter and buffer, with what
quantisers keep beside them. Not seen are functions and tensors that a module holds as plain attributes, hooks, and code
that has changed under the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from lora_da.adapter.sharding import is_sharded, whole_shape
from lora_da.system.hashing import hash_entries, hash_lines

# Where the model comes from, and who wrote it; neither changes what it computes.
_ORIGIN = ("_name_or_path", "_commit_hash", "transformers_version")


@dataclass(frozen=True)
class ModelDescription:
    """What a base model is made of, piece by piece.

    Attributes:
        shared: What all processes of a job have alike: text by piece.
        own: Digests of the parts of sharded parameters that this process holds, by parameter.
    """

    shared: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Return one digest of all, as this process has it."""
        return hash_lines(repr(piece) for pieces in (self.shared, self.own) for piece in pieces.items())


def describe_model(base: nn.Module) -> ModelDescription:
    """Describe a base model, without the adapters in it, by reading every byte of its weights once."""
    found, seen = ModelDescription(), dict[int, Tensor]()
    for name, value in _configuration(base).items():
        found.shared[f"the setting {name}"] = _anywhere(repr(value))
    for path, module in find_base_modules(base):
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        found.shared[f"the module {path or 'outermost'}"] = _anywhere(f"{kind}({module.extra_repr()})")
        for name, tensor in _tensors_of(module).items():
            if id(tensor) not in seen:  # else it is tied to an earlier one
                seen[id(tensor)] = tensor  # held, so that none takes another's number
                _describe_tensor(found, f"{path}.{name}".lstrip("."), tensor)
    return found


def find_base_modules(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that run while adapters are disabled, by their names in the model without PEFT."""
    if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
        inside = getattr(module, "base_layer", None) or getattr(module, "original_module", None)
        if isinstance(inside, nn.Module):
            yield from find_base_modules(inside, path)
            return
    yield path, module
    for name, child in module.named_children():
        yield from find_base_modules(child, f"{path}.{name}".lstrip("."))


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers, and what one that is saved in a way of its own would save beside them."""
    own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    kind, plain = type(module), nn.Module
    saves = kind.state_dict is not plain.state_dict or kind._save_to_state_dict is not plain._save_to_state_dict
    if saves and next(module.children(), None) is None:
        saved = module.state_dict(keep_vars=True)
        own |= {name: value for name, value in saved.items() if name not in own and isinstance(value, Tensor)}
    return own


def _describe_tensor(found: ModelDescription, name: str, tensor: Tensor) -> None:
    text = f"{type(tensor).__name__} {tensor.dtype} {tuple(whole_shape(tensor))}"
    digest = hash_lines(f"{part.dtype} {tuple(part.shape)} {_entries(part)}" for part in _held(tensor))[:16]
    if is_sharded(tensor):
        found.own[name] = digest
    else:
        text += f" with digest {digest}"
    found.shared[f"the weight {name}"] = text


def _held(tensor: Tensor) -> Iterator[Tensor]:
    """The plain tensors that a sharded or quantised one is made of in this process."""
    if hasattr(tensor, "__tensor_flatten__"):
        parts = [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
        for part in parts:
            if isinstance(part, Tensor):  # a DTensor counts its mesh among its parts
                yield from _held(part)
    else:
        yield getattr(tensor, "ds_tensor", tensor)  # DeepSpeed's partition


def _entries(tensor: Tensor) -> str:
    return "without memory" if tensor.device.type == "meta" else hash_entries(tensor)


def _configuration(base: nn.Module) -> dict[str, Any]:
    config: Any = getattr(base, "config", None)
    settings = config.to_dict() if hasattr(config, "to_dict") else {}
    return {name: value for name, value in settings.items() if name not in _ORIGIN}


def _anywhere(text: str) -> str:
    """A text without addresses and the numbers of devices, which differ from process to process."""
    return re.sub(r"\b(cuda|cpu|xpu|npu|hpu|mps|xla):\d+| at 0x[0-9a-f]+", r"\1", text)

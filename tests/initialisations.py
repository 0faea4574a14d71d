"""A fixed set of initialisations, whose products B·A are recorded bit for bit in ``recorded``.

``python tests/initialisations.py FILE`` writes what this version of the library makes of them;
``torchrun tests/initialisations.py FILE`` writes what several processes make.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_da import LoraDAConfig, initialize_lora_da_weights
from presets import PARAMETERS

VOCABULARY = 37
DAMPED = dataclasses.replace(PARAMETERS, population_size=100)


def machine() -> dict[str, str]:
    """What decides about the last bits of a matrix product."""
    cpu = Path("/proc/cpuinfo")
    names = [line for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.is_file() else []
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "processor": names[0].split(":", 1)[1].strip() if names else platform.processor(),
    }


def _batches() -> list[dict[str, Tensor]]:
    """Three batches of four examples of different lengths, prompts without labels, padded on the right."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(3):
        lengths = torch.randint(4, 10, (4,), generator=generator)
        ids = torch.randint(3, VOCABULARY, (4, 9), generator=generator)
        attended = torch.arange(9) < lengths[:, None]
        labels = torch.where(attended & (torch.arange(9) >= 2), ids, -100)
        batches.append({"input_ids": ids * attended, "attention_mask": attended.long(), "labels": labels})
    return batches


def _llama(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings | changes)).eval()


def _quantised_llama() -> Any:
    import bitsandbytes

    make: Any = vars(bitsandbytes.nn)["Linear4bit"]

    model = _llama(hidden_size=64, intermediate_size=64)
    for part in (model.model.layers[0].self_attn, model.model.layers[0].mlp):
        for name, layer in list(part.named_children()):
            if isinstance(layer, nn.Linear):
                quantised = make(
                    layer.in_features, layer.out_features, bias=False, quant_type="nf4", compute_dtype=torch.float32
                )
                quantised.load_state_dict({"weight": layer.weight.detach()})
                setattr(part, name, quantised.to("cpu"))
    return model


def _mixture() -> Any:
    config = transformers.MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        num_experts_per_tok=2,
        initializer_range=0.3,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return transformers.MixtralForCausalLM(config).eval()


_EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"]


def adapted(make: Callable[[], Any], config: LoraDAConfig, times: int = 1, **settings: Any) -> dict[str, Any]:
    """Initialise an adapter from each batch so many times; its layers."""
    torch.manual_seed(1)
    shape: dict[str, Any] = {"r": 3, "lora_alpha": 6, "target_modules": "all-linear"} | settings
    model = get_peft_model(make(), LoraConfig(**shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        initialize_lora_da_weights(model, times * _batches(), config, max_examples=10_000, progress=False)
    return {n: layer for n, layer in model.get_base_model().named_modules() if hasattr(layer, "get_delta_weight")}


def steps() -> dict[str, Tensor]:
    """Initialise an adapter by the default, from batches so often alike that B is a step; B·A of each layer."""
    return products(config=LoraDAConfig(population_size=100), times=48)


def products(make: Callable[[], Any] = _llama, config: LoraDAConfig = DAMPED, **settings: Any) -> dict[str, Tensor]:
    """Initialise an adapter; B·A of each layer, (d_out, d_in), or of a stack of experts what PEFT adds to it."""
    layers = adapted(make, config, **settings)
    return {name: layer.get_delta_weight("default").detach().contiguous() for name, layer in layers.items()}


def rows() -> dict[str, Tensor]:
    """Initialise an adapter by the default, whose B these few examples leave at zero; A of each layer."""
    layers = adapted(_llama, LoraDAConfig(population_size=100))
    return {name: layer.lora_A["default"].weight.detach().contiguous() for name, layer in layers.items()}


def by_one_process() -> dict[str, Tensor]:
    """All cases that one process makes, by case and layer."""
    presets = {"damped": DAMPED, "paper": LoraDAConfig.paper(), "released": LoraDAConfig.released()}
    cases: dict[str, Mapping[str, Tensor]] = {
        name: products(config=dataclasses.replace(preset, population_size=100)) for name, preset in presets.items()
    }
    cases["default"] = rows()
    cases["step"] = steps()
    cases["four bits"] = products(_quantised_llama)
    cases["experts"] = products(_mixture, target_modules=["q_proj"], target_parameters=_EXPERTS, lora_dropout=0.0)
    return {f"{case}/{name}": value for case, found in cases.items() for name, value in found.items()}


def main(file: Path) -> None:
    torch.set_num_threads(1)
    if torch.distributed.is_torchelastic_launched():
        torch.distributed.init_process_group("gloo")
        cases = {"two processes": products(), "two processes, step": steps()}
        found = {f"{case}/{name}": value for case, made in cases.items() for name, value in made.items()}
        if torch.distributed.get_rank() == 0:
            save_file(found, file, metadata=machine())
        torch.distributed.destroy_process_group()
    else:
        save_file(by_one_process(), file, metadata=machine())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

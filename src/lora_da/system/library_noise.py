"""Lines that libraries log and that concern nobody who calls a command: these and no others."""

from __future__ import annotations

import logging

# By the logger, what a message has in it. PEFT imports torchao to see whether a layer is one of its own: then torchao
# tells which of its kernels are not for this machine, and torch that torchao registers its constants in an old way. Ray
# tells that its workers need a token, which it has made itself. Tokenizers warn of texts that are longer than a model
# takes; they are cut afterwards, and a length that the model does not take is refused.
_NOISE = {
    "torchao": "Failed to load",
    "torch.utils._pytree": "register_constant()",
    "transformers.tokenization_utils_base": "Token indices sequence length is longer",
    "ray._private.authentication.authentication_token_setup": "Token authentication is enabled",
}


def silence_libraries() -> None:
    """Drop these lines from now on; called by commands alone, before torch is imported."""
    for name, part in _NOISE.items():
        logging.getLogger(name).addFilter(_Without(part))


class _Without(logging.Filter):
    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def filter(self, record: logging.LogRecord) -> bool:
        return self._part not in record.getMessage()

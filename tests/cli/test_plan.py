from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaConfig

from command import call


@pytest.fixture(scope="module")
def llama_7b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of Llama-2-7B alone, without weights or tokenizer."""
    folder = tmp_path_factory.mktemp("llama")
    LlamaConfig(architectures=["LlamaForCausalLM"], dtype="bfloat16").save_pretrained(folder)
    return folder


def test_a_7b_model_on_a_24_gb_card(llama_7b: Path) -> None:
    options = ["--tokens", "256", "--batch-size", "2", "--device-memory", "24GiB", "--host-memory", "64GiB"]
    output = call("plan", llama_7b, *options)
    for said in (
        "6,738,415,616",
        "12.55 GiB",
        "mlp.down_proj",
        "11008",
        "one pass over the data",
        "in the host's memory",
    ):
        assert said in output
    # By hand, in each block: 4096² (q, k, v, o) and 4096·11008 (gate, up, down) for the gradients; 4096² (the inputs of
    # q, k, v; of o; of gate, up) and 11008² (of down); and the diagonals of the output factors.
    block = 4 * 4096**2 + 3 * 4096 * 11008 + 3 * 4096**2 + 11008**2 + 5 * 4096 + 2 * 11008
    assert f"{32 * 4 * block / 2**30:.2f} GiB" in output
    assert "time on this machine" not in output
    assert "does not fit" not in output


def test_a_card_that_is_too_small(llama_7b: Path) -> None:
    with pytest.raises(AssertionError, match=r"This does not fit: the model's weights take 12\.55 GiB") as output:
        call("plan", llama_7b, "--device-memory", "8GiB", "--host-memory", "64GiB")
    assert "free memory of the host" in str(output.value)


def test_host_memory_alone_says_nothing(llama_7b: Path) -> None:
    with pytest.raises(AssertionError, match="--host-memory goes with --device-memory"):
        call("plan", llama_7b, "--host-memory", "64GiB")

from __future__ import annotations

import pytest
import torch

from laboratory.data.test_examples import classified
from laboratory.made_samples import sample_of
from lora_da_bench.laboratory.data.examples import Examples
from lora_da_bench.laboratory.estimators.sample import collect_samples, rescale_loss
from models import VOCABULARY, classified_examples, tiny_bert, tiny_llama
from oracles import randn


def test_a_sample_is_what_autograd_sees() -> None:
    """Inputs and gradients of every layer, from tensors that are kept; each example by itself."""
    model = tiny_llama()
    blocks = torch.randint(3, VOCABULARY, (10, 6), generator=torch.Generator().manual_seed(0))
    found = collect_samples(model, Examples(blocks, torch.ones_like(blocks)), population=77, seed=3)
    reference = tiny_llama().double().requires_grad_(True)
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in found}

    def keep(name: str) -> object:
        def hook(_: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            output.retain_grad()
            seen[name].append((inputs[0].detach()[0], output))

        return reference.get_submodule(name).register_forward_hook(hook)

    for name in found:
        keep(name)
    for block in blocks:
        (reference(input_ids=block[None], labels=block[None]).loss * (blocks.shape[1] - 1)).backward()
    assert len(found) == 14
    for name, own in found.items():
        a = torch.stack([inputs for inputs, _ in seen[name]])
        g = torch.stack([output.grad[0] for _, output in seen[name] if output.grad is not None])
        expected = sample_of(a, g, name=name)
        torch.testing.assert_close(own.gradient, expected.gradient, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(own.input_factor, expected.input_factor, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(own.output_diagonal, expected.output_diagonal, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(own.moments.mean, expected.moments.mean, rtol=1e-3, atol=1e-5)
        for moment in ("fourth", "example_square"):
            mine, theirs = (torch.tensor(getattr(entry.moments, moment)) for entry in (own, expected))
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
        gradients = torch.einsum("slo,sli->soi", g, a)
        for basis, fisher in own.corrected.items():
            # In its own basis: eigenvectors' signs are free, and those of the least eigenvalues are rounding's.
            moments = (fisher.outputs.mT @ gradients @ fisher.inputs).square().mean(0)
            torch.testing.assert_close(fisher.moments, moments, rtol=1e-2, atol=1e-3 * float(moments.max()))
            total = expected.corrected[basis].moments.sum()
            torch.testing.assert_close(fisher.moments.sum(), total, rtol=1e-3, atol=0.0)
        assert (own.name, own.labels, own.population, own.seed, own.tokens_per_example) == (name, 5, 77, 3, 6.0)


def test_padding_and_the_head_are_left_out() -> None:
    """Moments of texts of several lengths, from each text alone."""
    model = tiny_bert()
    found = collect_samples(model, classified(7), population=77, seed=3)
    assert "classifier" not in found
    assert {sample.labels for sample in found.values()} == {1}
    for name in ("bert.encoder.layer.1.output.dense", "bert.pooler.dense"):
        rows: list[torch.Tensor] = []
        with torch.no_grad():
            handle = model.get_submodule(name).register_forward_pre_hook(
                lambda _, inputs, rows=rows: rows.append(inputs[0].double().reshape(-1, inputs[0].shape[-1]))
            )
            for example in classified_examples(7):
                model(input_ids=example["input_ids"][None])
            handle.remove()
        tokens, own = torch.cat(rows), found[name].moments
        weight = 7 / len(tokens)
        squares = [float((weight * part.T @ part).square().sum()) for part in rows]
        torch.testing.assert_close(own.mean, tokens.mean(0), rtol=1e-4, atol=1e-6)
        assert own.fourth == pytest.approx(float(tokens.norm(dim=1).pow(4).mean()), rel=1e-4)
        assert own.example_square == pytest.approx(sum(squares) / 7, rel=1e-4)
        torch.testing.assert_close(found[name].input_factor, tokens.T @ tokens / len(tokens), rtol=1e-4, atol=1e-5)


def test_another_scale_of_the_loss() -> None:
    a, g = randn(0, 5, 4, 3), randn(1, 5, 4, 2)
    changed, expected = rescale_loss(sample_of(a, g), 0.25), sample_of(a, g * 0.25).statistics
    torch.testing.assert_close(changed.gradient_sum, expected.gradient_sum)
    torch.testing.assert_close(changed.output_sum, expected.output_sum)
    torch.testing.assert_close(changed.input_sum, expected.input_sum)

"""The configuration of the method: every reading of it that differs is one field, every common one a preset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lora_da.system.validation import check_fields, setting

EXAMPLES = 64
"""Calibration examples, unless more or fewer are asked for: what was measured is flat from there on, and below."""


@dataclass(frozen=True)
class CollectionConfig:
    """Settings of the collection; statistics of different settings do not add.

    Attributes:
        loss_reduction: The loss of one example: the "sum" of its label tokens' losses in nats (its negative
            log-likelihood, what the theory asks for) or their "mean".
        output_factor: Keep only the "diagonal" of the output Fisher factor, or the "full" matrix, which the
            diagonal of its inverse needs (d_out² numbers a layer).
    """

    loss_reduction: Literal["sum", "mean"] = "sum"
    output_factor: Literal["diagonal", "full"] = "diagonal"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class LoraDAConfig:
    """Settings of the solver and the scale, with the collection settings that belong to them.

    The defaults are the best that has been measured; :meth:`paper` and :meth:`released` are the two published readings.

    Attributes:
        collection: Which statistics are collected.
        metric: What the subspace keeps most of: the expected decrease of the "loss", or the step towards the target
            in the "parameters", which the paper minimises.
        fisher_unit: The Fisher information belongs to one "example" (J ≈ T̄·Y ⊗ Z, T̄ tokens per example) or to one
            "token" (J ≈ Y ⊗ Z).
        output_factor: What is used of the inverse output factor: the "diagonal_of_inverse" [Y⁻¹]_ii (needs
            ``collection.output_factor="full"``) or the "inverse_of_diagonal" 1/Y_ii.
        input_damping: What is added to the input factor Z.
        output_damping: What is added to the output factor Y.
        damping_mode: Dampings are "relative" to the factor's mean eigenvalue, or "absolute".
        bias_weight: α, the weight of −ΔᵀΔ.
        variance_weight: β, the weight of the variance term.
        population_size: N, the number of examples that fine-tuning will see; None takes the data set's length.
        sample_correction: Whether what the noise of Δ, estimated from few examples, adds to ΔᵀΔ is removed: "none" of
            it, or the "simple" estimate (the variance term with 1/S for 1/N).
        init_scale: The scale of A and B. "searched" and "zero" make A's outputs white and as large as those of LoRA's
            usual A; B is a part of the step within A's span whose length is searched for on a few examples, or zero,
            which is right where training compares with the base model (DPO, GRPO). "theory" is A and ΔAᵀ/s, "stable"
            the same divided by √γ each, Δ by its norm too.
        stable_gamma: γ, by which "stable" divides the product B·A.
        seed: The seed of what completes the subspace where the data don't determine it.
    """

    collection: CollectionConfig = field(default_factory=CollectionConfig)
    metric: Literal["loss", "parameters"] = "loss"
    fisher_unit: Literal["example", "token"] = "example"
    output_factor: Literal["diagonal_of_inverse", "inverse_of_diagonal"] = "inverse_of_diagonal"
    input_damping: float = setting(1.0, minimum=0)
    output_damping: float = setting(0.1, minimum=0)
    damping_mode: Literal["relative", "absolute"] = "relative"
    bias_weight: float = setting(1.0, minimum=0)
    variance_weight: float = setting(1.0, minimum=0)
    population_size: int | None = setting(None, minimum=1)
    sample_correction: Literal["none", "simple"] = "simple"
    init_scale: Literal["searched", "zero", "theory", "stable"] = "searched"
    stable_gamma: float = setting(1024.0, above=0)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.output_factor == "diagonal_of_inverse" and self.collection.output_factor != "full":
            raise ValueError('output_factor="diagonal_of_inverse" needs CollectionConfig(output_factor="full")')

    @property
    def needs_population_size(self) -> bool:
        """Whether N decides the result; where it does not, the bias term and its sample correction stand alone."""
        unchecked = self.sample_correction == "none" or self.bias_weight == 0
        return self.metric == "parameters" and self.variance_weight > 0 and unchecked

    @classmethod
    def paper(cls) -> LoraDAConfig:
        """Return the method as the paper derives it, with the damping that it does not give."""
        return cls(
            collection=CollectionConfig(output_factor="full"),
            metric="parameters",
            output_factor="diagonal_of_inverse",
            input_damping=1e-3,
            output_damping=1e-3,
            sample_correction="none",
            init_scale="theory",
        )

    @classmethod
    def released(cls) -> LoraDAConfig:
        """Return what the authors' released configuration computes, solved exactly."""
        return cls(
            collection=CollectionConfig(loss_reduction="mean"),
            metric="parameters",
            fisher_unit="token",
            input_damping=1e-6,
            output_damping=1e-6,
            damping_mode="absolute",
            variance_weight=0.03,
            sample_correction="none",
            init_scale="stable",
        )

"""How far a second moment Z should be shrunk towards a multiple of the identity, judged from the sample alone.

With m = tr(Z)/d the mean eigenvalue and w the weight, (1 − w)·Z + w·m·I is what is estimated, so up to a factor, which
moves no subspace, Z is damped by w/(1 − w) of its mean eigenvalue. The weight is that of least expected squared error,
β²/δ² with δ² = ‖Z − m·I‖² and β² the expected squared error of Z itself (Ledoit and Wolf, J. Multivariate Anal. 88,
2004). Formulas are scikit-learn's with ``assume_centered=True``.
"""

from __future__ import annotations

from torch import Tensor


def ledoit_wolf(Z: Tensor, squares: float, count: int) -> float:
    """Weigh by Ledoit and Wolf's formula.

    Args:
        Z: (d, d), the mean of ``count`` independent matrices X.
        squares: The mean of their ‖X‖²: of ‖a‖⁴ where X = a aᵀ for each token, or of ‖Z_e‖² where X = Z_e is the
            second moment of one example, whose tokens may depend on one another.
        count: Of tokens or examples.
    """
    size = Z.square().sum()
    distance = float(size - Z.trace().square() / len(Z))
    error = (squares - float(size)) / count
    return 1.0 if distance <= 0 else min(1.0, max(0.0, error / distance))


def oracle_approximating(Z: Tensor, count: int) -> float:
    """Weigh by the oracle approximating shrinkage for normal, independent inputs (Chen et al., arXiv 0907.4698).

    Args:
        Z: (d, d), of ``count`` inputs.
        count: How many.
    """
    mean_square, mean = float(Z.square().mean()), float(Z.trace()) / len(Z)
    denominator = (count + 1) * (mean_square - mean**2 / len(Z))
    return 1.0 if denominator <= 0 else min(1.0, (mean_square + mean**2) / denominator)


def damping_of_weight(weight: float, largest: float = 1e6) -> float:
    """The damping λ, in mean eigenvalues, that a weight stands for; a weight of 1, the identity alone, is "largest"."""
    return min(largest, weight / (1 - weight)) if weight < 1 else largest

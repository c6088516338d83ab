"""Eigenvalues of a product of matrices that is never multiplied out."""

from typing import Any

import numpy as np

TRUSTED = 1e-6
"""Eigenvalues of a product of norm one that are larger than this are taken from it: eight digits are left."""

APART = 2.0
"""The least ratio between the moduli of eigenvalues at which a product is cut in two."""


def log_eigenvalues(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln |mᵢ| and mᵢ/|mᵢ| of the eigenvalues of Jₚ ⋯ J₂ J₁, ``[n]`` each, by falling modulus.

    For ``factors [p, n, n]``, J₁ first. In the product itself all eigenvalues below ε times the largest are lost. So
    the product only serves to find the directions of the large ones: with an orthogonal Q₀ whose first columns span
    them, Jₖ Qₖ₋₁ = Qₖ Rₖ turns every factor into a triangular one, and the same directions come back after p steps.
    The lower right parts of all Rₖ then are a shorter product with the small eigenvalues, which is treated in the same
    way (the idea of the periodic Schur form: Bojanczyk, Golub & Van Dooren 1992; for cycles, Lust 2001, International
    Journal of Bifurcation and Chaos 11).

    A complex pair is never cut in two: it comes from a product in which both of its eigenvalues are among the large
    ones, so that both have the same modulus. −inf stands for an eigenvalue that cannot be told from zero: where a
    factor has none but rounding left in its direction.
    """
    factors = np.asarray(factors, np.float64)
    logs, units = _log_eigenvalues(factors)
    order = np.argsort(-logs, kind="stable")
    return logs[order], units[order]


def _log_eigenvalues(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = factors.shape[-1]
    product, log_scale = _product(factors)
    if log_scale == -np.inf:
        return np.full(size, -np.inf), np.ones(size, complex)
    values = np.linalg.eigvals(product).astype(complex)
    values = values[np.argsort(-abs(values), kind="stable")]
    cut = _cut(abs(values))
    if cut == 0:
        return _log(abs(values)) + log_scale, _unit(values)
    between = np.sqrt(abs(values[cut - 1]) * abs(values[cut]))
    large, small = _split(factors, product, between)
    parts = [_log_eigenvalues(part) for part in (large, small)]
    logs, units = (np.concatenate(halves) for halves in zip(*parts, strict=True))
    return logs, units


def _product(factors: np.ndarray) -> tuple[np.ndarray, float]:
    """The product with norm one, and the logarithm of its norm; −inf where it is zero."""
    product, log_scale = np.eye(factors.shape[-1]), 0.0
    for factor in factors:
        product = factor @ product
        norm = np.linalg.norm(product)
        if norm == 0:
            return product, -np.inf
        product = product / norm
        log_scale += np.log(norm)
    return product, log_scale


def _cut(moduli: np.ndarray) -> int:
    """How many of the eigenvalues count as large; 0 where they need not be told apart."""
    if len(moduli) < 2 or moduli[-1] > TRUSTED:
        return 0
    trusted = max(1, int((moduli > TRUSTED).sum()))
    ratios = moduli[:trusted] / np.maximum(moduli[1 : trusted + 1], np.finfo(float).tiny)
    cut = int(ratios.argmax())
    return cut + 1 if ratios[cut] > APART else 0


def _split(
    factors: np.ndarray, product: np.ndarray, between: float
) -> tuple[np.ndarray, np.ndarray]:
    """The factors on the directions of the eigenvalues above and below a modulus."""
    # Imported here, since it takes a tenth of a second and only cycles need it.
    import scipy.linalg

    def above(real: float, imaginary: float) -> bool:
        return np.hypot(real, imaginary) > between

    schur: Any = scipy.linalg.schur(product, sort=above)
    _, first, cut = schur
    turned, basis = [], first
    for factor in factors:
        basis, triangular = np.linalg.qr(factor @ basis)
        turned.append(triangular)
    # After p steps the directions are the same again, but for a turn of each part in itself.
    closing = first.T @ basis
    large = np.array([factor[:cut, :cut] for factor in turned])
    small = np.array([factor[cut:, cut:] for factor in turned])
    sizes = np.linalg.norm(factors, axis=(1, 2))
    rounding = factors.shape[-1] * np.finfo(float).eps * sizes
    small[np.linalg.norm(small, axis=(1, 2)) <= rounding] = 0
    large[-1] = closing[:cut, :cut] @ large[-1]
    small[-1] = closing[cut:, cut:] @ small[-1]
    return large, small


def _log(modulus: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(modulus)


def _unit(values: np.ndarray) -> np.ndarray:
    modulus = abs(values)
    return np.where(modulus > 0, values / np.where(modulus > 0, modulus, 1), 1)

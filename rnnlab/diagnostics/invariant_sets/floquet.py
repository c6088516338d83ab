"""Eigenvalues of a product of matrices that is never multiplied out."""

from typing import Any

import numpy as np

TRUSTED = 1e-6
"""Eigenvalues above this are read off a product of norm one: eight digits are left of them."""

APART = 2.0
"""The smallest ratio between the moduli of eigenvalues at which a product is cut in two."""


def log_eigenvalues(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln |mᵢ| and mᵢ/|mᵢ| of the eigenvalues of Jₚ ⋯ J₂ J₁, ``[n]`` each, by falling modulus.

    For ``factors [p, n, n]``, J₁ first. In the product itself all eigenvalues below ε times the
    largest are lost. So the product is only used to compute the directions of the large ones: with
    an orthogonal Q₀ whose first columns span them, Jₖ Qₖ₋₁ = Qₖ Rₖ makes every factor triangular,
    and the same directions return after p steps. The lower right blocks of all Rₖ are then factors
    of a smaller product that has the small eigenvalues, and to which the same method applies (the
    idea of the periodic Schur form: Bojanczyk, Golub & Van Dooren 1992; for cycles, Lust 2001,
    International Journal of Bifurcation and Chaos 11).

    A complex pair is never cut in two: both of its eigenvalues are read off one product, so that
    both have the same modulus. −inf stands for an eigenvalue that is zero to rounding: a factor has
    nothing but rounding left in its direction.
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
    order = np.argsort(-abs(values), kind="stable")
    values = values[order]
    moduli = abs(values)
    cut = _cut(moduli)
    if cut == 0:
        return _log(moduli) + log_scale, _unit(values)
    # The geometric mean, so that rounding moves neither neighbour across the boundary.
    smallest = abs(values[cut - 1])
    next_smaller = abs(values[cut])
    boundary = np.sqrt(smallest * next_smaller)
    large, small = _split(factors, product, boundary)
    large_logs, large_units = _log_eigenvalues(large)
    small_logs, small_units = _log_eigenvalues(small)
    logs = np.concatenate([large_logs, small_logs])
    units = np.concatenate([large_units, small_units])
    return logs, units


def _product(factors: np.ndarray) -> tuple[np.ndarray, float]:
    """The product with norm one, and the logarithm of its norm; −inf where it is zero."""
    product = np.eye(factors.shape[-1])
    log_scale = 0.0
    for factor in factors:
        product = factor @ product
        norm = np.linalg.norm(product)
        if norm == 0:
            return product, -np.inf
        product = product / norm
        log_scale += np.log(norm)
    return product, log_scale


def _cut(moduli: np.ndarray) -> int:
    """The number of eigenvalues that count as large; 0 where the product need not be cut."""
    if len(moduli) < 2 or moduli[-1] > TRUSTED:
        return 0
    trusted = max(1, int((moduli > TRUSTED).sum()))
    following = moduli[1 : trusted + 1]
    ratios = moduli[:trusted] / np.maximum(following, np.finfo(float).tiny)
    # At the widest gap, where the directions of the large eigenvalues are best determined.
    cut = int(ratios.argmax())
    if ratios[cut] <= APART:
        return 0
    return cut + 1


def _split(
    factors: np.ndarray,
    product: np.ndarray,
    boundary: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The factors on the directions of the eigenvalues above and below a modulus."""
    # Imported here, since it takes a tenth of a second and only cycles need it.
    import scipy.linalg

    def above(real: float, imaginary: float) -> bool:
        return np.hypot(real, imaginary) > boundary

    schur: Any = scipy.linalg.schur(product, sort=above)
    _, first, cut = schur
    basis = first
    triangular = []
    for factor in factors:
        basis, upper = np.linalg.qr(factor @ basis)
        triangular.append(upper)
    # After p steps the two subspaces are the same again, but the basis of each has rotated.
    closing = first.T @ basis
    large = np.array([upper[:cut, :cut] for upper in triangular])
    small = np.array([upper[cut:, cut:] for upper in triangular])
    sizes = np.linalg.norm(factors, axis=(1, 2))
    rounding = factors.shape[-1] * np.finfo(float).eps * sizes
    # Otherwise an eigenvalue of zero would come back as the product of roundings.
    lost = np.linalg.norm(small, axis=(1, 2)) <= rounding
    small[lost] = 0
    large[-1] = closing[:cut, :cut] @ large[-1]
    small[-1] = closing[cut:, cut:] @ small[-1]
    return large, small


def _log(moduli: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(moduli)


def _unit(values: np.ndarray) -> np.ndarray:
    moduli = abs(values)
    positive = moduli > 0
    divisor = np.where(positive, moduli, 1)
    return np.where(positive, values / divisor, 1)

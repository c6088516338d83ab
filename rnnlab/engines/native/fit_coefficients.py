"""Computes the polynomials of ``vectors.h``: eʳ on |r| ≤ ln 2 / 2, by Remez's exchange algorithm.

    python rnnlab/engines/native/fit_coefficients.py

eʳ = 1 + r + r² q(r). Of all polynomials q of a degree, the one found has the smallest largest error
of eʳ relative to eʳ. It prints each polynomial with that error, and what rounding to the dtype adds
to it. Needs mpmath.
"""

from collections.abc import Callable
from typing import Any

import mpmath
from mpmath import mp, mpf

DEGREES = {"float": (24, 4, 8), "double": (53, 9, 11)}
"""Bits of a mantissa, the degree of q, and the bits of n in 2ⁿ."""
REACH = mp.log(2) / 2


def error(q: list[Any], r: Any) -> Any:
    """The error of 1 + r + r² q(r), relative to eʳ."""
    value = 1 + r + r * r * mp.polyval(q[::-1], r)
    return value / mp.exp(r) - 1


def exchange(degree: int, rounds: int = 12) -> list[Any]:
    """The coefficients of q, lowest power first."""
    count = degree + 2
    q: list[Any] = []
    nodes = [REACH * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)][::-1]
    for _ in range(rounds):
        # Σ q_k r^(k+2) / eʳ ± E = 1 − (1 + r) / eʳ at the nodes, with the sign changing.
        matrix = mp.matrix(count, count)
        right = mp.matrix(count, 1)
        for row, r in enumerate(nodes):
            for k in range(degree + 1):
                matrix[row, k] = r ** (k + 2) / mp.exp(r)
            matrix[row, count - 1] = (-1) ** row
            right[row] = 1 - (1 + r) / mp.exp(r)
        solution = mp.lu_solve(matrix, right)
        q = [solution[k] for k in range(degree + 1)]
        nodes = extrema(lambda r, q=q: error(q, r), count)
    return q


def extrema(function: Callable[[Any], Any], count: int, points: int = 4000) -> list[Any]:
    """Where ``function`` is largest in size between its changes of sign, from left to right."""
    grid = [REACH * (2 * mpf(k) / points - 1) for k in range(points + 1)]
    values = [function(r) for r in grid]
    peaks = [0]
    for k in range(1, points + 1):
        if values[k] * values[peaks[-1]] < 0:
            peaks.append(k)
        elif abs(values[k]) > abs(values[peaks[-1]]):
            peaks[-1] = k
    # eʳ is matched twice at zero, where the error touches zero without a change of sign.
    while len(peaks) > count:
        smallest = min(range(len(peaks)), key=lambda i: abs(values[peaks[i]]))
        peaks.pop(smallest)
    return [grid[k] for k in peaks]


def rounded(value: Any, bits: int) -> Any:
    """The nearest number with a mantissa of so many bits."""
    with mpmath.workprec(bits):
        return +value


def main() -> None:
    """Prints the polynomial of each dtype."""
    mp.prec = 200
    for dtype, (bits, degree, exponent_bits) in DEGREES.items():
        q = exchange(degree)
        stored = [rounded(coefficient, bits) for coefficient in q]
        grid = [REACH * (2 * mpf(k) / 20_000 - 1) for k in range(20_001)]
        exact = max(abs(error(q, r)) for r in grid)
        after = max(abs(error(stored, r)) for r in grid)
        unit = mpf(2) ** -bits
        print(f"{dtype}: error {mp.nstr(exact / unit, 3)} of half a unit in the last place,")
        print(f"  {mp.nstr(after / unit, 3)} with rounded coefficients")
        for coefficient in stored:
            print(f"  {mp.nstr(coefficient, 17 if bits > 24 else 9, min_fixed=0, max_fixed=0)},")
        # So short that n ln 2 is exact.
        high = rounded(mp.log(2), bits - exponent_bits)
        print(f"  ln 2 = {mp.nstr(high, 17)} + {mp.nstr(rounded(mp.log(2) - high, bits), 17)}")


if __name__ == "__main__":
    main()

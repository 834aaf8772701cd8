"""Rounding steps of blocks of features, as coarse as a bound on the change of every answer allows.

The change of an answer is the sum, over the pixels from which it is interpolated, of its derivative times the
rounding error of the pixel. Rounding errors are random, so the standard deviation of the change follows from
the steps of the blocks in which the pixels lie. The step of a block is limited by all points that use it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from nisf.subject.portable import Touched

ROUNDS = 30
LOOSEST = 2.0**12
"""Largest step, in units of the finest, for blocks on which hardly any answer depends."""


def block_of(shapes: list[tuple[int, int]], side: int) -> Int[np.ndarray, "n"]:
    """Index of the block of each pixel, slice by slice."""
    out, before = [], 0
    for h, w in shapes:
        row, column = np.mgrid[:h, :w] // side
        out.append((before + row * (w // side) + column).ravel())
        before += h * w // side**2
    return np.concatenate(out)


def variances(
    effect: Float[np.ndarray, "p m k f"],
    touched: Touched,
    blocks: Int[np.ndarray, "n"],
    noise: Float[np.ndarray, "f f"],
) -> sparse.csr_array:
    """Variance of each answer at each point that each block causes with a step of one (p m, blocks).

    Args:
        effect: derivatives of answers by features.
        touched: pixels from which the features come.
        blocks: blocks of each pixel.
        noise: covariance of a pixel's features at a step of one.
    """
    p, m = effect.shape[:2]
    own = np.einsum("pmkf,fg,pmkg->pmk", effect, noise.astype(effect.dtype), effect, optimize=True)
    values = own[..., None] * (touched.weight**2)[:, None]
    rows = np.broadcast_to(np.arange(p * m).reshape(p, m, 1, 1), values.shape)
    columns = np.broadcast_to(blocks[touched.pixel][:, None], values.shape)
    count = int(blocks.max()) + 1
    return sparse.csr_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=(p * m, count))


def allowed(variance: sparse.csr_array, most: float) -> Float[np.ndarray, "b"]:
    """Squared steps with which no answer has a variance above ``most``; infinite for unused blocks.

    Each round divides the square by the largest excess among the answers that depend on the block. A power
    below one lets blocks that share an answer converge together.
    """
    by_block = variance.tocsc()
    by_block.sum_duplicates()
    filled = np.flatnonzero(np.diff(by_block.indptr))
    starts = by_block.indptr[filled]
    squares = np.full(variance.shape[1], 1e-30)
    for number in range(ROUNDS):
        excess = (variance @ squares) / most
        worst = np.maximum.reduceat(excess[by_block.indices], starts)
        squares[filled] /= np.maximum(worst, 1e-12) ** (0.7 if number < ROUNDS - 5 else 1.0)
    squares[np.setdiff1d(np.arange(len(squares)), filled)] = np.inf
    return squares

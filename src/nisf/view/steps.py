"""How coarsely each block of features may be rounded: as far as no answer moves by more than a bound.

A place's answer moves by the sum over the pixels that it is interpolated from of its derivative times their
rounding error, which is random, so that its standard deviation follows from the steps of the blocks that the
pixels lie in. Steps are as large as the answers of all places allow that the block is used for.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from nisf.subject.portable import Touched

ROUNDS = 30
LOOSEST = 2.0**12
"""Steps of blocks that hardly any answer depends on, in units of the finest."""


def block_of(shapes: list[tuple[int, int]], side: int) -> Int[np.ndarray, "n"]:
    """Block that each pixel of all slices lies in, one slice after the other."""
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
    """Variance of each answer of each place, by block, at steps of one (p m, blocks).

    Args:
        effect: derivatives of answers by features.
        touched: pixels that the features come from.
        blocks: of each pixel.
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
    """Squares of steps at which no answer's variance is larger than ``most``; infinite where none depends.

    Every round divides a block's by the worst excess among the answers that depend on it; a power below one
    lets blocks that share an answer settle together.
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

"""Triton kernels of the residual MLP, forward and backward; see `nisf.fused`, which calls them.

A program takes a tile of points through all layers. Forward, nothing but the logits leaves it. Backward
it computes the tile's stream again, keeping one copy a layer in a scratch of its own that is small enough
to stay in the L2 cache, and goes back down with it. Importing this module needs Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(a, b, PRODUCTS: tl.constexpr):
    """Matrix product with fp32 sums: in full (0), TF32 (1), bf16 (2) or rounded to bf16 (3)."""
    if PRODUCTS == 3:  # the interpreter cannot multiply bf16
        return tl.dot(a.to(tl.bfloat16).to(tl.float32), b.to(tl.bfloat16).to(tl.float32))
    if PRODUCTS == 2:
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    if PRODUCTS == 1:
        return tl.dot(a, b, input_precision="tf32")
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def activation(u, v, OMEGA, SIGMA, KIND: tl.constexpr):
    """Of a layer's linear maps: ReLU (0), sine (1), Gabor wavelet (2); ``v`` is the wavelet's alone."""
    if KIND == 2:
        scaled = SIGMA * v
        return tl.cos(OMEGA * u) * tl.exp(-scaled * scaled)
    if KIND == 1:
        return tl.sin(OMEGA * u)
    return tl.maximum(u, 0.0)


@triton.jit
def slopes(u, v, above, OMEGA, SIGMA, KIND: tl.constexpr):
    """Gradients by ``u`` and ``v``, given that of the activation."""
    if KIND == 2:
        scaled = SIGMA * v
        enveloped = above * tl.exp(-scaled * scaled)
        return -OMEGA * tl.sin(OMEGA * u) * enveloped, -2.0 * SIGMA * scaled * tl.cos(OMEGA * u) * enveloped
    if KIND == 1:
        return OMEGA * tl.cos(OMEGA * u) * above, above * 0.0
    return tl.where(u > 0, above, 0.0), above * 0.0


@triton.jit
def first_map(x, w0, first, rows, inside, E: tl.constexpr, units, BLOCK: tl.constexpr, W: tl.constexpr):
    """The first layer: few coordinates, and the latent's part, which all points of a subject share."""
    out = tl.zeros((BLOCK, W), dtype=tl.float32) + tl.load(first + units)[None, :]
    for e in tl.static_range(E):
        column = tl.load(x + rows * E + e, mask=inside, other=0.0)
        out += column[:, None] * tl.load(w0 + units * E + e)[None, :]
    return out


@triton.jit
def square(w, rows, units, W: tl.constexpr):
    """Weights (W, W) of one linear map, rows are outputs."""
    return tl.load(w + rows[:, None] * W + units[None, :])


@triton.jit
def forward(
    x,  # (s, n, e) inputs of the first layer
    first,  # (s, r) latent's part of the first layer, bias included
    start,  # (s, w) where the stream starts
    w0,  # (r, e) coordinates' part of the first layer
    w,  # (layers - 1, r, w)
    b,  # (layers - 1, r)
    hw,  # (h, w) both heads, filled up with zeros
    hb,  # (h,)
    out,  # (s, n, h) logits
    n,
    layers,
    OMEGA,
    SIGMA,
    E: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    KIND: tl.constexpr,
    PRODUCTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Logits of one tile of one subject: program (tile, subject)."""
    subject = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < n
    units, heads = tl.arange(0, W), tl.arange(0, H)
    x += subject * n * E
    first += subject * R
    u = first_map(x, w0, first, rows, inside, E, units, BLOCK, W)
    v = u
    if KIND == 2:
        v = first_map(x, w0, first, rows, inside, E, units + W, BLOCK, W)
    stream = tl.load(start + subject * W + units)[None, :] + activation(u, v, OMEGA, SIGMA, KIND)
    for layer in range(layers - 1):
        wk, bk = w + layer * R * W, b + layer * R
        u = product(stream, tl.trans(square(wk, units, units, W)), PRODUCTS) + tl.load(bk + units)[None, :]
        v = u
        if KIND == 2:
            v = product(stream, tl.trans(square(wk, units + W, units, W)), PRODUCTS)
            v += tl.load(bk + units + W)[None, :]
        stream += activation(u, v, OMEGA, SIGMA, KIND)
    logits = product(stream, tl.trans(square(hw, heads, units, W)), PRODUCTS) + tl.load(hb + heads)[None, :]
    place = out + subject * n * H + rows[:, None] * H + heads[None, :]
    tl.store(place, logits, mask=inside[:, None])


@triton.jit
def backward(
    x,
    first,
    start,
    w0,
    w,
    b,
    hw,
    above,  # (s, n, h) gradient of the logits
    scratch,  # (programs, layers, BLOCK, w)
    dx,  # gradients, each like what it is of; zeros before
    dfirst,
    dstart,
    dw0,
    dw,
    db,
    dhw,
    dhb,
    subjects,
    n,
    layers,
    OMEGA,
    SIGMA,
    E: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
    H: tl.constexpr,
    KIND: tl.constexpr,
    PRODUCTS: tl.constexpr,
    BLOCK: tl.constexpr,
    WEIGHTS: tl.constexpr,  # whether the weights' gradients are wanted
):
    """Gradients; each program takes every so many tiles, so that its scratch is used again and again."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    units, heads, local = tl.arange(0, W), tl.arange(0, H), tl.arange(0, BLOCK)
    tiles = tl.cdiv(n, BLOCK)
    scratch += program.to(tl.int64) * layers * BLOCK * W
    tile_of = local[:, None] * W + units[None, :]
    for tile in range(program, tiles * subjects, programs):
        subject = (tile // tiles).to(tl.int64)
        rows = (tile % tiles) * BLOCK + local
        inside = rows < n
        xs, fs = x + subject * n * E, first + subject * R
        # Forward again. The stream after each layer goes to the scratch; the first layer's is computed anew.
        u = first_map(xs, w0, fs, rows, inside, E, units, BLOCK, W)
        v = u
        if KIND == 2:
            v = first_map(xs, w0, fs, rows, inside, E, units + W, BLOCK, W)
        stream = tl.load(start + subject * W + units)[None, :] + activation(u, v, OMEGA, SIGMA, KIND)
        for layer in range(layers - 1):
            tl.store(scratch + layer * BLOCK * W + tile_of, stream)
            wk, bk = w + layer * R * W, b + layer * R
            u = (
                product(stream, tl.trans(square(wk, units, units, W)), PRODUCTS)
                + tl.load(bk + units)[None, :]
            )
            v = u
            if KIND == 2:
                v = product(stream, tl.trans(square(wk, units + W, units, W)), PRODUCTS)
                v += tl.load(bk + units + W)[None, :]
            stream += activation(u, v, OMEGA, SIGMA, KIND)
        tl.debug_barrier()  # threads read what others of the program wrote
        g = tl.load(
            above + subject * n * H + rows[:, None] * H + heads[None, :], mask=inside[:, None], other=0.0
        )
        ds = product(g, square(hw, heads, units, W), PRODUCTS)
        if WEIGHTS:
            tl.atomic_add(dhw + heads[:, None] * W + units[None, :], product(tl.trans(g), stream, PRODUCTS))
            tl.atomic_add(dhb + heads, tl.sum(g, axis=0))
        for back in range(layers - 1):
            layer = layers - 2 - back
            wk, bk = w + layer * R * W, b + layer * R
            stream = tl.load(scratch + layer * BLOCK * W + tile_of)
            waves = square(wk, units, units, W)
            u = product(stream, tl.trans(waves), PRODUCTS) + tl.load(bk + units)[None, :]
            v = u
            if KIND == 2:
                v = product(stream, tl.trans(square(wk, units + W, units, W)), PRODUCTS)
                v += tl.load(bk + units + W)[None, :]
            du, dv = slopes(u, v, ds, OMEGA, SIGMA, KIND)
            ds += product(du, waves, PRODUCTS)
            if WEIGHTS:
                place = dw + layer * R * W + units[:, None] * W + units[None, :]
                tl.atomic_add(place, product(tl.trans(du), stream, PRODUCTS))
                tl.atomic_add(db + layer * R + units, tl.sum(du, axis=0))
            if KIND == 2:
                ds += product(dv, square(wk, units + W, units, W), PRODUCTS)
                if WEIGHTS:
                    place = dw + layer * R * W + (units + W)[:, None] * W + units[None, :]
                    tl.atomic_add(place, product(tl.trans(dv), stream, PRODUCTS))
                    tl.atomic_add(db + layer * R + units + W, tl.sum(dv, axis=0))
        u = first_map(xs, w0, fs, rows, inside, E, units, BLOCK, W)
        v = u
        if KIND == 2:
            v = first_map(xs, w0, fs, rows, inside, E, units + W, BLOCK, W)
        du, dv = slopes(u, v, ds, OMEGA, SIGMA, KIND)
        tl.atomic_add(dstart + subject * W + units, tl.sum(ds, axis=0))
        tl.atomic_add(dfirst + subject * R + units, tl.sum(du, axis=0))
        if KIND == 2:
            tl.atomic_add(dfirst + subject * R + units + W, tl.sum(dv, axis=0))
        for e in tl.static_range(E):
            column = tl.load(xs + rows * E + e, mask=inside, other=0.0)
            slope = tl.sum(du * tl.load(w0 + units * E + e)[None, :], axis=1)
            if WEIGHTS:
                tl.atomic_add(dw0 + units * E + e, tl.sum(du * column[:, None], axis=0))
            if KIND == 2:
                slope += tl.sum(dv * tl.load(w0 + (units + W) * E + e)[None, :], axis=1)
                if WEIGHTS:
                    tl.atomic_add(dw0 + (units + W) * E + e, tl.sum(dv * column[:, None], axis=0))
            tl.store(dx + subject * n * E + rows * E + e, slope, mask=inside)
        tl.debug_barrier()  # the scratch is free for the next tile

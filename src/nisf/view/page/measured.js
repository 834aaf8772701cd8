// The measured slices' own pixels where a plane meets them: thick slices, nothing is interpolated.
import { inverse, mapped, mappedDirection, minus, norm, scaled } from "./vectors.js";

/** The frame of a stack that is nearest to a time on the cycle. */
export function nearestFrame(times, time) {
  const away = times.map((t) => Math.abs(((t - time + 1.5) % 1) - 0.5));
  return away.indexOf(Math.min(...away));
}

export class MeasuredSlices {
  constructor(source, info) {
    this.source = source;
    this.stacks = info.stacks.map((stack) => {
      const toVoxel = inverse(stack.affine);
      const columns = [0, 1, 2].map((j) => [0, 1, 2].map((i) => stack.affine[i][j]));
      const reach = stack.thickness ? Math.min(0.5, (0.5 * stack.thickness) / norm(columns[2])) : 0;
      const gaps = new Set((stack.gaps || []).map(([position, frame]) => `${position} ${frame}`));
      return { ...stack, toVoxel, reach, gaps };
    });
    this.there = this.stacks.some((stack) => stack.reach > 0);
    this.frames = new Map();
  }

  /** The pixels of every stack at a time; null while they are being fetched, then `onReady` is called. */
  at(time, onReady) {
    const out = [];
    for (const [index, stack] of this.stacks.entries()) {
      if (!stack.reach) continue;
      const frame = nearestFrame(stack.times, time), key = `${index} ${frame}`;
      if (!this.frames.has(key)) {
        this.frames.set(key, null);
        this.source.measured(index, frame).then(
          (answer) => { this.frames.set(key, answer.values); onReady(); },
          () => { this.frames.delete(key); },
        );
      }
      const values = this.frames.get(key);
      if (values) out.push({ stack, frame, values });
    }
    return out.length ? out : null;
  }
}

/** Measured values on a grid of pixels (uint16, and whether there are any), one stack over the other. */
export function sampled(found, grid) {
  const { width, height, origin, right, down } = grid;
  const value = new Uint16Array(width * height), there = new Uint8Array(width * height);
  for (const { stack, frame, values } of found) {
    const [nx, ny, nz] = stack.shape;
    const start = mapped(stack.toVoxel, origin);
    const di = mappedDirection(stack.toVoxel, right), dj = mappedDirection(stack.toVoxel, down);
    const skipped = Array.from({ length: nz }, (_, k) => stack.gaps.has(`${k} ${frame}`));
    for (let j = 0, n = 0; j < height; j++) {
      let x = start[0] + j * dj[0], y = start[1] + j * dj[1], z = start[2] + j * dj[2];
      for (let i = 0; i < width; i++, n++, x += di[0], y += di[1], z += di[2]) {
        const k = Math.round(z), a = Math.round(x), b = Math.round(y);
        if (k < 0 || k >= nz || a < 0 || a >= nx || b < 0 || b >= ny) continue;
        if (Math.abs(z - k) > stack.reach + 1e-6 || skipped[k]) continue;
        value[n] = values[(k * ny + b) * nx + a];
        there[n] = 1;
      }
    }
  }
  return { value, there };
}

/** Places of a sheet's pixels: where the first lies, and the steps to the next column and row. */
export function gridOf(question, sheet) {
  const pitch = question.spacing * sheet.step;
  const corner = [
    -(question.width - 1) / 2 * question.spacing, -(question.height - 1) / 2 * question.spacing,
  ];
  const origin = [0, 1, 2].map(
    (i) => question.centre[i] + question.right[i] * corner[0] + question.down[i] * corner[1]);
  return {
    width: sheet.width, height: sheet.height, origin,
    right: scaled(question.right, pitch), down: scaled(question.down, pitch),
  };
}

/** Whether each pixel of a grid lies in the region (uint8). */
export function insideRegion(region, grid) {
  const { width, height } = grid, [hx, hy, hz] = region.half;
  const out = new Uint8Array(width * height);
  const start = mapped(region.pose, grid.origin);
  const di = mappedDirection(region.pose, grid.right), dj = mappedDirection(region.pose, grid.down);
  for (let j = 0, n = 0; j < height; j++) {
    for (let i = 0; i < width; i++, n++) {
      const x = start[0] + i * di[0] + j * dj[0], y = start[1] + i * di[1] + j * dj[1];
      const z = start[2] + i * di[2] + j * dj[2];
      out[n] = Math.abs(x) <= hx && Math.abs(y) <= hy && Math.abs(z) <= hz ? 1 : 0;
    }
  }
  return out;
}

/** The outline of each measured slice at a time, as four corners in the world. */
export function outlines(stacks) {
  const out = [];
  for (const stack of stacks) {
    const [nx, ny, nz] = stack.shape;
    for (let k = 0; k < nz; k++) {
      const corners = [[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]];
      out.push(corners.map(([i, j]) => mapped(stack.affine, [i, j, k])));
    }
  }
  return out;
}

/** The plane of a stack's slice. */
export function slicePlane(stack, position) {
  const [nx, ny] = stack.shape;
  const at = (i, j) => mapped(stack.affine, [i, j, position]);
  const middle = at((nx - 1) / 2, (ny - 1) / 2);
  return { centre: middle, right: minus(at(1, 0), at(0, 0)), down: minus(at(0, 1), at(0, 0)) };
}

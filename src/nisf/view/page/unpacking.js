// Arrays out of the file's data, one after the other.

const TYPES = { float32: Float32Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int32: Int32Array };

/** The bytes of one array of the table. */
export function part(data, entry) {
  return data.subarray(entry.at, entry.at + entry.bytes);
}

/** One array of the table, inflated. */
export async function unpacked(data, entry) {
  const stream = new Blob([part(data, entry)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return { shape: entry.shape, values: new TYPES[entry.type](buffer) };
}

/** Values by key, made when they are asked for; the `most` that were asked for last are kept. */
export class Recent {
  constructor(most) {
    this.most = most;
    this.kept = new Map();
  }

  get(key, make) {
    const value = this.kept.has(key) ? this.kept.get(key) : make();
    // A map's keys are in the order in which they were set.
    this.kept.delete(key);
    this.kept.set(key, value);
    if (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
    return value;
  }
}

/** Features of a slice, float32, channel last, from the whole numbers of its blocks. */
export function features({ h, w, values }, basis, middle, block) {
  const [axes, size] = basis.shape, f = size / block ** 2, rows = h * block, columns = w * block;
  const out = new Float32Array(rows * columns * f), own = new Float32Array(size), steps = basis.values;
  for (let i = 0; i < h; i++) {
    for (let j = 0; j < w; j++) {
      own.set(middle.values);
      for (let d = 0, from = (i * w + j) * axes; d < axes; d++) {
        const v = values[from + d];
        if (v !== 0) for (let c = 0, o = d * size; c < size; c++, o++) own[c] += v * steps[o];
      }
      for (let a = 0; a < block; a++) out.set(own.subarray(a * block * f, (a + 1) * block * f), ((i * block + a) * columns + j * block) * f);
    }
  }
  return { values: out, rows, columns };
}

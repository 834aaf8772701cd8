// out = in · weights + bias, by WebAssembly with vectors of four numbers, assembled here byte by byte: it needs
// no compiler, and is a hundred lines instead of ten megabytes of a general runtime.

const I32 = 0x7f, V128 = 0x7b;

/** Unsigned LEB128. */
function leb(n) {
  const out = [];
  do {
    const byte = n & 0x7f;
    n >>>= 7;
    out.push(n ? byte | 0x80 : byte);
  } while (n);
  return out;
}

const section = (id, bytes) => [id, ...leb(bytes.length), ...bytes];
const get = (local) => [0x20, local];
const set = (local) => [0x21, local];
const integer = (n) => [0x41, ...signed(n)];
const PLUS = [0x6a], MINUS = [0x6b], LESS = [0x49];

function signed(n) {
  const out = [];
  for (;;) {
    const byte = n & 0x7f;
    n >>= 7;
    if ((n === 0 && !(byte & 0x40)) || (n === -1 && byte & 0x40)) return [...out, byte];
    out.push(byte | 0x80);
  }
}

const load = (offset) => [0xfd, 0x00, 4, ...leb(offset)];
const splat = () => [0xfd, 0x09, 2, 0];
const store = (offset) => [0xfd, 0x0b, 4, ...leb(offset)];
const FADD = [0xfd, 0xe4, 0x01], FMUL = [0xfd, 0xe6, 0x01], FMAX = [0xfd, 0xe9, 0x01];
const ZERO = [0xfd, 0x0c, ...new Array(16).fill(0)];
const loop = (...body) => [0x03, 0x40, ...body.flat(), 0x0b];
const again = [0x0d, 0x00];

/** The module: one function (in, weights, bias, out, rows, inner, columns in bytes, relu) on a shared memory. */
function assembled() {
  const [from, weights, bias, out, rows, inner, columns, relu] = [0, 1, 2, 3, 4, 5, 6, 7];
  const [j, i, pi, pw, s] = [8, 9, 10, 11, 16], sums = [12, 13, 14, 15];
  const step = (local, by) => [...get(local), ...by, ...PLUS, ...set(local)];
  const inside = loop(
    [...get(pi), ...splat(), ...set(s)],
    sums.map((sum, k) => [...get(sum), ...get(s), ...get(pw), ...load(16 * k), ...FMUL, ...FADD, ...set(sum)]).flat(),
    step(pi, integer(4)), step(pw, get(columns)),
    [...get(i), ...integer(1), ...MINUS, 0x22, i, ...again],
  );
  const block = loop(
    sums.map((sum, k) => [...get(bias), ...get(j), ...PLUS, ...load(16 * k), ...set(sum)]).flat(),
    [...get(from), ...set(pi), ...get(weights), ...get(j), ...PLUS, ...set(pw), ...get(inner), ...set(i)],
    inside,
    [...get(relu), 0x04, 0x40, ...sums.flatMap((sum) => [...get(sum), ...ZERO, ...FMAX, ...set(sum)]), 0x0b],
    sums.map((sum, k) => [...get(out), ...get(j), ...PLUS, ...get(sum), ...store(16 * k)]).flat(),
    step(j, integer(64)),
    [...get(j), ...get(columns), ...LESS, ...again],
  );
  const whole = loop(
    [...integer(0), ...set(j)], block,
    [...get(from), ...get(inner), ...integer(2), 0x74, ...PLUS, ...set(from)], step(out, get(columns)),
    [...get(rows), ...integer(1), ...MINUS, 0x22, rows, ...again],
  );
  const body = [2, 4, I32, 5, V128, ...whole, 0x0b];
  const text = (words) => [words.length, ...[...words].map((c) => c.charCodeAt(0))];
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [1, 0x60, 8, ...new Array(8).fill(I32), 0]),
    ...section(2, [1, ...text("e"), ...text("m"), 2, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text("f"), 0, 0]),
    ...section(10, [1, ...leb(body.length), ...body]),
  ]);
}

/** The same in plain JavaScript, where there is no WebAssembly with vectors. */
export function plainGemm(buffer) {
  return (from, weights, bias, out, rows, inner, columns, relu) => {
    const n = columns / 4, x = new Float32Array(buffer, from), w = new Float32Array(buffer, weights);
    const b = new Float32Array(buffer, bias), y = new Float32Array(buffer, out);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < n; c++) y[r * n + c] = b[c];
      for (let k = 0; k < inner; k++) {
        const value = x[r * inner + k];
        for (let c = 0; c < n; c++) y[r * n + c] += value * w[k * n + c];
      }
      if (relu) for (let c = 0; c < n; c++) if (y[r * n + c] < 0) y[r * n + c] = 0;
    }
  };
}

/** A memory of so many bytes, and the product that works on it; columns are multiples of 16 numbers. */
export function gemmOn(bytes) {
  const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });
  try {
    const made = new WebAssembly.Instance(new WebAssembly.Module(assembled()), { e: { m: memory } });
    return { buffer: memory.buffer, gemm: made.exports.f };
  } catch {
    return { buffer: memory.buffer, gemm: plainGemm(memory.buffer) };
  }
}

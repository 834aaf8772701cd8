// The field's decoder: the nearest slices of a place, their features there, and the network that decodes them.
// It answers as nisf.networks.image_inference does; names are those of the Python.
import { gemmOn } from "./gemm.js";

const FAR_MM = 1e4, SHARP_MM = 2;
export const PLACES = 256;

const padded = (n) => Math.ceil(n / 16) * 16;

export class Decoder {
  /** @param settings, weights as nisf.kinds.image.portable gives them; each phase's features come by `features(t)`. */
  constructor(settings, weights, features) {
    this.settings = settings;
    this.features = features;
    this.shapes(weights);
    this.lay(weights);
  }

  shapes(weights) {
    const [inputs, hidden] = weights["each0.weight"].shape;
    this.f = inputs - 1;
    this.hidden = hidden;
    this.h = padded(hidden);
    this.latent = weights["join0.weight"].shape[0] - 2 * hidden;
    this.outputs = weights["head.weight"].shape[1];
    this.o = padded(this.outputs);
    this.k = this.settings.neighbours;
  }

  /** Lays weights and working arrays into one memory. */
  lay(weights) {
    const { f, h, hidden, k, o } = this, wide = PLACES * k;
    const sizes = {
      first: f * h, firstBias: h, second: h * h, secondBias: h, both: 2 * h * h, joinBias: h, last: h * h, lastBias: h,
      head: (h + f) * o, headBias: o, features: wide * f, common: wide * h, moved: wide * h, each: wide * h,
      means: PLACES * 2 * h, joined: PLACES * h, result: PLACES * h, final: PLACES * (h + f), answer: PLACES * o,
    };
    this.at = {};
    let total = 0;
    for (const [name, size] of Object.entries(sizes)) {
      this.at[name] = total;
      total += 4 * Math.ceil(size / 4) * 4;
    }
    const { buffer, gemm } = gemmOn(total + 64);
    this.gemm = gemm;
    this.a = Object.fromEntries(Object.entries(sizes).map(([name, size]) => [name, new Float32Array(buffer, this.at[name], size)]));
    const put = (target, columns, source, width, rows, from = 0, to = 0) => {
      for (let r = 0; r < rows; r++) for (let c = 0; c < width; c++) target[(to + r) * columns + c] = source[(from + r) * width + c];
    };
    const w = (name) => weights[name].values, a = this.a;
    put(a.first, h, w("each0.weight"), hidden, f);
    this.along = w("each0.weight").slice(f * hidden).map((v) => v / this.settings.distance_mm);
    put(a.firstBias, h, w("each0.bias"), hidden, 1);
    put(a.second, h, w("each1.weight"), hidden, hidden);
    put(a.secondBias, h, w("each1.bias"), hidden, 1);
    put(a.both, h, w("join0.weight"), hidden, hidden);
    put(a.both, h, w("join0.weight"), hidden, hidden, hidden, h);
    this.joinLatent = w("join0.weight").slice(2 * hidden * hidden);
    this.joinOwn = w("join0.bias");
    put(a.last, h, w("join1.weight"), hidden, hidden);
    put(a.lastBias, h, w("join1.bias"), hidden, 1);
    put(a.head, o, w("head.weight"), this.outputs, hidden);
    put(a.head, o, w("direct.weight"), this.outputs, f, 0, h);
    put(a.headBias, o, w("head.bias"), this.outputs, 1);
  }

  /** The measured phases around a time, and how much each counts. */
  weightsAt(time) {
    const { times } = this.settings, n = times.length, now = ((time % 1) + 1) % 1;
    const exact = times.findIndex((t) => Math.abs(t - now) < 1e-8 + 1e-5 * Math.abs(now));
    if (n === 1) return [[0, 1]];
    if (exact >= 0) return [[exact, 1]];
    const first = times.findIndex((t) => t >= now), after = first < 0 ? 0 : first, before = (after - 1 + n) % n;
    const gap = (times[after] - times[before] + 1) % 1, way = ((now - times[before] + 1) % 1) / gap;
    return [[before, 1 - way], [after, way]];
  }

  /** What is decoded at a time: means of features where phases are posed alike, else answers that are mixed. */
  mixed(time) {
    const found = this.weightsAt(time), { posed } = this.settings;
    if (found.length > 1 && posed[found[0][0]] === posed[found[1][0]]) return [[found, 1]];
    return found.map(([t, share]) => [[[t, 1]], share]);
  }

  /** Intensities and class probabilities at places (mm from the box's middle), one row each. */
  answer(places, time) {
    const count = places.length / 3, { outputs } = this, out = new Float32Array(count * outputs);
    for (const [phases, share] of this.mixed(time)) {
      for (let first = 0; first < count; first += PLACES) {
        const n = Math.min(PLACES, count - first);
        this.part(places.subarray(3 * first, 3 * (first + n)), n, phases);
        this.squash(out.subarray(first * outputs, (first + n) * outputs), n, share);
      }
    }
    return out;
  }

  /** Logits of some places at one phase or a mean of phases, in the memory's `answer`. */
  part(places, n, phases) {
    const { h, f, k, a, at } = this, near = this.nearby(places, n, phases[0][0]);
    a.features.fill(0, 0, n * near.count * f);
    for (const [t, share] of phases) this.sample(near, n, t, share);
    const rows = n * near.count;
    this.gemm(at.features, at.first, at.firstBias, at.common, rows, f, 4 * h, 0);
    this.bias(phases);
    const signs = this.settings.both ? [1, -1] : [1];
    a.final.fill(0, 0, n * (h + f));
    for (const sign of signs) {
      for (let r = 0, o = 0; r < rows; r++) {
        const distance = sign * near.distance[r];
        for (let c = 0; c < h; c++, o++) {
          const v = a.common[o] + distance * (this.along[c] || 0);
          a.moved[o] = v > 0 ? v : 0;
        }
      }
      this.gemm(at.moved, at.second, at.secondBias, at.each, rows, h, 4 * h, 1);
      this.means(near, n);
      this.gemm(at.means, at.both, at.joinBias, at.joined, n, 2 * h, 4 * h, 1);
      this.gemm(at.joined, at.last, at.lastBias, at.result, n, h, 4 * h, 1);
      for (let p = 0; p < n; p++) {
        for (let c = 0; c < h; c++) a.final[p * (h + f) + c] += a.result[p * h + c] / signs.length;
      }
    }
    for (let p = 0; p < n; p++) {
      for (let q = 0; q < near.count; q++) {
        const r = p * near.count + q, share = near.sharp[r];
        for (let c = 0; c < f; c++) a.final[p * (h + f) + h + c] += share * a.features[r * f + c];
      }
    }
    this.gemm(at.final, at.head, at.headBias, at.answer, n, h + f, 4 * this.o, 0);
    return k;
  }

  /** The join's bias with the phases' latent. */
  bias(phases) {
    const { latents } = this.settings, { hidden } = this;
    for (let c = 0; c < hidden; c++) {
      let sum = this.joinOwn[c];
      for (const [t, share] of phases) for (let l = 0; l < this.latent; l++) sum += share * latents[t][l] * this.joinLatent[l * hidden + c];
      this.a.joinBias[c] = sum;
    }
  }

  means(near, n) {
    const { h, a } = this;
    a.means.fill(0, 0, n * 2 * h);
    for (let p = 0; p < n; p++) {
      for (let q = 0; q < near.count; q++) {
        const r = p * near.count + q, w = near.weight[r], s = near.sharp[r];
        for (let c = 0; c < h; c++) {
          const v = a.each[r * h + c];
          a.means[p * 2 * h + c] += w * v;
          a.means[p * 2 * h + h + c] += s * v;
        }
      }
    }
  }

  /** The nearest slices of each place; see nisf.networks.lookup.nearby. */
  nearby(places, n, t) {
    const maps = this.settings.maps[t], size = this.settings.pixels, middle = (size - 1) / 2, slices = maps.length;
    const count = Math.min(this.k, slices), rows = n * count;
    const out = {
      count, index: new Int32Array(rows), u: new Float32Array(rows), v: new Float32Array(rows),
      distance: new Float32Array(rows), weight: new Float32Array(rows), sharp: new Float32Array(rows),
    };
    const all = new Float32Array(slices * 3), away = new Float32Array(slices);
    for (let p = 0; p < n; p++) {
      const x = places[3 * p], y = places[3 * p + 1], z = places[3 * p + 2];
      for (let s = 0; s < slices; s++) {
        for (let d = 0; d < 3; d++) {
          const m = maps[s][d];
          all[3 * s + d] = m[0] * x + m[1] * y + m[2] * z + m[3];
        }
        const outside = Math.max(Math.abs(all[3 * s] - middle), Math.abs(all[3 * s + 1] - middle)) > size / 2;
        away[s] = Math.abs(all[3 * s + 2]) + (outside ? FAR_MM : 0);
      }
      const chosen = smallest(away, Math.min(count + 1, slices));
      const reach = slices > count ? away[chosen[count]] : FAR_MM;
      let total = 0, sharp = 0;
      for (let q = 0; q < count; q++) {
        const s = chosen[q], r = p * count + q;
        out.index[r] = s;
        out.u[r] = all[3 * s];
        out.v[r] = all[3 * s + 1];
        out.distance[r] = all[3 * s + 2];
        out.weight[r] = away[s] < FAR_MM ? Math.max(0, 1 - away[s] / (reach + 0.01)) : 0;
        total += out.weight[r];
      }
      for (let q = 0; q < count; q++) {
        const r = p * count + q;
        out.weight[r] /= Math.max(total, 1e-6);
        out.sharp[r] = out.weight[r] / (Math.abs(out.distance[r]) + SHARP_MM);
        sharp += out.sharp[r];
      }
      for (let q = 0; q < count; q++) out.sharp[p * count + q] /= Math.max(sharp, 1e-6);
    }
    return out;
  }

  /** Adds a phase's features where places project onto their slices, linearly between pixels. */
  sample(near, n, t, share) {
    const { f, a } = this, tables = this.features(t), crops = this.settings.crops[t], last = this.settings.pixels - 1;
    for (let r = 0; r < n * near.count; r++) {
      const { values, rows, columns } = tables[near.index[r]], [i0, j0] = crops[near.index[r]];
      const u = Math.min(rows - 1, Math.max(0, Math.min(last, Math.max(0, near.u[r])) - i0));
      const v = Math.min(columns - 1, Math.max(0, Math.min(last, Math.max(0, near.v[r])) - j0));
      const i = Math.min(rows - 2, Math.floor(u)), j = Math.min(columns - 2, Math.floor(v)), p = u - i, q = v - j;
      const corner = (i * columns + j) * f, below = columns * f;
      const [w00, w01, w10, w11] = [share * (1 - p) * (1 - q), share * (1 - p) * q, share * p * (1 - q), share * p * q];
      for (let c = 0; c < f; c++) {
        a.features[r * f + c] += w00 * values[corner + c] + w01 * values[corner + f + c]
          + w10 * values[corner + below + c] + w11 * values[corner + below + f + c];
      }
    }
  }

  /** Logits to intensities in [0, 1] and probabilities, added to `out` with a weight. */
  squash(out, n, share) {
    const { outputs, a } = this, { channels } = this.settings;
    for (let p = 0; p < n; p++) {
      const from = p * this.o;
      for (let c = 0; c < channels; c++) out[p * outputs + c] += share / (1 + Math.exp(-a.answer[from + c]));
      let most = -Infinity, sum = 0;
      for (let c = channels; c < outputs; c++) most = Math.max(most, a.answer[from + c]);
      for (let c = channels; c < outputs; c++) sum += Math.exp(a.answer[from + c] - most);
      for (let c = channels; c < outputs; c++) out[p * outputs + c] += (share * Math.exp(a.answer[from + c] - most)) / sum;
    }
  }
}

/** Indices of the `count` smallest values, ascending. */
function smallest(values, count) {
  const out = [];
  for (let s = 0; s < values.length; s++) {
    let place = out.length;
    while (place > 0 && values[out[place - 1]] > values[s]) place--;
    if (place < count) {
      out.splice(place, 0, s);
      if (out.length > count) out.pop();
    }
  }
  return out;
}

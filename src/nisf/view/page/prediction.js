// Whole numbers of a phase's slices: what is left of them, added to what neighbours predict; see nisf.view.prediction.
import { Stream, Table, context } from "./entropy.js";
import { part, unpacked } from "./unpacking.js";

export class Predicted {
  /** @param group, name of the chunks; `coding` has what Python's constants are, and each phase's sizes. */
  constructor(data, chunks, group, coding) {
    Object.assign(this, { data, chunks, group, coding });
  }

  async begin() {
    const get = (name) => unpacked(this.data, this.chunks[`${this.group} ${name}`]);
    this.taps = [await get("taps 0"), await get("taps 1")];
    this.means = await get("means");
    this.table = new Table(await get("table"));
    this.levelTable = new Table(await get("level table"));
    return this;
  }

  before(t) {
    return this.chunks[`${this.group} ${t}`].before;
  }

  /** Each slice of a phase: `{ h, w, levels, values }`, axis after axis for each block; `earlier` is the phase before. */
  phase(t, earlier) {
    const entry = this.chunks[`${this.group} ${t}`], bytes = part(this.data, entry);
    let at = 0;
    return this.coding.sizes[t].map(([h, w], k) => {
      const stream = new Stream(bytes.subarray(at, at + entry.lengths[k]));
      at += entry.lengths[k];
      const was = entry.before ? earlier[k] : null, levels = this.levels(stream, h, w, was);
      const values = this.values(stream, h, w, levels, was);
      if (stream.at !== entry.lengths[k] || stream.state[0] !== 65536) throw new Error("The file is damaged.");
      return { h, w, levels, values };
    });
  }

  levels(stream, h, w, was) {
    const out = new Uint8Array(h * w);
    for (let p = 0; p < h * w; p++) {
      const near = (p % w ? out[p - 1] : 0) + (p >= w ? out[p - w] : 0);
      out[p] = stream.number(this.levelTable, was ? 1 : 0) + (was ? (near + 2 * was.levels[p]) >> 2 : near >> 1);
    }
    return out;
  }

  values(stream, h, w, levels, was) {
    const { unit, spatial, before, mix, steps, recent } = this.coding, kind = was ? 1 : 0;
    const taps = this.taps[kind], [axes, count] = taps.shape, weights = taps.values;
    const means = this.means.values.subarray(kind * axes, (kind + 1) * axes);
    const out = new Int32Array(h * w * axes), rest = new Int32Array(h * w * axes);
    const from = new Array(count).fill(null), offset = new Int32Array(count);
    const ways = was ? [...spatial, ...before] : spatial;
    for (let i = 0; i < h; i++) {
      for (let j = 0; j < w; j++) {
        const p = i * w + j, step = steps[levels[p]];
        let there = 0;
        // Only neighbours that exist are summed.
        const used = [];
        ways.forEach(([up, left], t) => {
          const y = i - up, x = j - left;
          if (y < 0 || y >= h || x < 0 || x >= w) return;
          from[there] = t < spatial.length ? out : was.values;
          offset[there++] = (y * w + x) * axes;
          used.push(t);
        });
        const left = j > 0 ? (p - 1) * axes : -1, up = i > 0 ? (p - w) * axes : -1;
        const both = i > 0 && j > 0 ? (p - w - 1) * axes : -1, other = i > 0 && j + 1 < w ? (p - w + 1) * axes : -1;
        let others = 1;
        for (let d = 0; d < axes; d++) {
          let sum = 0, near = 0;
          for (let n = 0; n < there; n++) sum += weights[d * count + used[n]] * from[n][offset[n] + d];
          if (left >= 0) near += 2 * rest[left + d];
          if (up >= 0) near += 2 * rest[up + d];
          if (both >= 0) near += rest[both + d];
          if (other >= 0) near += rest[other + d];
          const mean = means[d], expected = mix[0] * mean + mix[1] * near + mix[2] * mean * others;
          const found = stream.number(this.table, context(expected / step)), size = Math.abs(found) * step;
          out[p * axes + d] = (found + Math.floor(sum / (unit * step) + 0.5)) * step;
          rest[p * axes + d] = size;
          others += (size / mean - others) * recent;
        }
      }
    }
    return out;
  }
}

/** Phases of a group, decoded when they are asked for; `most` are kept. */
export class Phases {
  constructor(predicted, most) {
    this.predicted = predicted;
    this.most = most;
    this.kept = new Map();
  }

  /** The slices of a phase; those that predict it are decoded first. */
  at(t) {
    let first = t;
    while (!this.kept.has(first) && this.predicted.before(first)) first--;
    for (let n = first; n <= t; n++) {
      if (this.kept.has(n)) continue;
      this.kept.set(n, this.predicted.phase(n, this.predicted.before(n) ? this.kept.get(n - 1) : null));
      if (this.kept.size > this.most) this.kept.delete(this.kept.keys().next().value);
    }
    return this.kept.get(t);
  }
}

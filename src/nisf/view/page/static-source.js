// Where answers come from in a page of its own: workers that decode the features which the file carries.
import { Phases, Predicted } from "./prediction.js";
import { latticeStep, refined } from "./refine.js";
import { unpacked } from "./unpacking.js";
import { inverse, mapped } from "./vectors.js";

const BATCH = 2048;
const VOLUME_MM = 2.5;
/** Memory for decoded phases, of all workers together. */
const BYTES = 6e8;

export class StaticSource {
  constructor(contents, data, worker) {
    this.contents = contents;
    this.data = data;
    this.pending = new Map();
    this.number = 0;
    this.toEnds = contents.ends && inverse(contents.ends.affine);
    this.toVoxel = contents.islands && inverse(contents.islands.affine);
    const address = URL.createObjectURL(new Blob([worker], { type: "text/javascript" }));
    this.count = Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1));
    this.workers = Array.from({ length: this.count }, () => this.started(address));
    this.stacks = new Map();
  }

  started(address) {
    const worker = new Worker(address);
    worker.load = 0;
    worker.onmessage = ({ data }) => {
      const { done, failed } = this.pending.get(data.number) || {};
      this.pending.delete(data.number);
      worker.load -= 1;
      if (data.error) failed?.(new Error(data.error));
      else done?.(data.answer);
    };
    worker.postMessage({ contents: this.contents, data: this.data, bytes: BYTES / this.count });
    return worker;
  }

  /** Raw answers at places in mm from the box's middle. */
  decode(places, time) {
    const worker = this.workers.reduce((a, b) => (b.load < a.load ? b : a)), number = ++this.number;
    worker.load += 1;
    return new Promise((done, failed) => {
      this.pending.set(number, { done, failed });
      worker.postMessage({ number, places, time }, [places.buffer]);
    });
  }

  async cases() {
    return [this.contents.info.name];
  }

  async open() {
    this.info = this.contents.info;
    this.m = 1 + this.info.labels.length;
    if (this.contents.decoder.channels !== 1) this.m += this.contents.decoder.channels - 1;
    if (this.contents.islands) {
      this.barred = [];
      for (let t = 0; t < this.info.times.length; t++) {
        const index = (await unpacked(this.data, this.contents.chunks[`barred ${t}`])).values;
        const bars = (await unpacked(this.data, this.contents.chunks[`bars ${t}`])).values;
        const classes = this.info.labels.length;
        this.barred.push(new Map(Array.from(index, (voxel, n) => [voxel, bars.subarray(n * classes, (n + 1) * classes)])));
      }
    }
    return this.info;
  }

  /** Answers at world places: outside the box, beyond the stack's ends and on islands as nisf gives them. */
  async ask(world, time, signal) {
    const { m, info } = this, { channels } = this.contents.decoder, count = world.length, [hx, hy, hz] = info.region.half;
    const out = new Float32Array(count * m), parts = [];
    for (let first = 0; first < count; first += BATCH) {
      const inside = [], places = [];
      for (let n = first; n < Math.min(count, first + BATCH); n++) {
        const [x, y, z] = mapped(info.region.pose, world[n]);
        out[n * m + channels] = 1;
        if (Math.abs(x) > hx || Math.abs(y) > hy || Math.abs(z) > hz || this.beyond(world[n])) continue;
        inside.push(n);
        places.push(x, y, z);
      }
      if (!inside.length) continue;
      parts.push(this.decode(new Float32Array(places), time).then((answer) => {
        inside.forEach((n, k) => out.set(answer.subarray(k * m, (k + 1) * m), n * m));
      }));
      if (parts.length % 8 === 0) {
        await Promise.all(parts);
        if (signal?.aborted) throw new DOMException("a newer question took its place", "AbortError");
      }
    }
    await Promise.all(parts);
    if (signal?.aborted) throw new DOMException("a newer question took its place", "AbortError");
    if (this.barred) this.remove(world, out, time);
    return out;
  }

  beyond(place) {
    if (!this.toEnds) return false;
    const along = mapped(this.toEnds, place)[2], [first, last] = this.contents.ends.ends;
    return along < first - 0.5 || along > last + 0.5;
  }

  /** Takes islands out of answers: classes that are barred at the nearest voxel of the nearest frame. */
  remove(world, out, time) {
    const { m } = this, { channels } = this.contents.decoder, { shape } = this.contents.islands;
    const away = this.info.times.map((t) => Math.abs(((t - time + 1.5) % 1) - 0.5));
    const barred = this.barred[away.indexOf(Math.min(...away))];
    if (!barred.size) return;
    world.forEach((place, n) => {
      const voxel = mapped(this.toVoxel, place).map((v, d) => Math.max(0, Math.min(shape[d] - 1, Math.round(v))));
      const bars = barred.get((voxel[0] * shape[1] + voxel[1]) * shape[2] + voxel[2]);
      if (!bars) return;
      let total = 0;
      const own = out.subarray(n * m + channels, (n + 1) * m);
      own.forEach((p, c) => { if (bars[c]) own[c] = 0; else total += p; });
      if (total === 0) own[0] = 1;
      else own.forEach((p, c) => { own[c] = p / total; });
    });
  }

  async plane(question, onSheet, signal) {
    const { channels } = this.contents.decoder, { width, height, spacing, centre, right, down } = question;
    const at = (x, y) => {
      const a = (x - (width - 1) / 2) * spacing, b = (y - (height - 1) / 2) * spacing;
      return [0, 1, 2].map((d) => centre[d] + a * right[d] + b * down[d]);
    };
    const ask = (pixels) => {
      const world = [];
      for (let n = 0; n < pixels.length; n += 2) world.push(at(pixels[n], pixels[n + 1]));
      return this.ask(world, question.time, signal);
    };
    await refined(ask, width, height, latticeStep(spacing), channels, (sheet) => onSheet(this.sheet(sheet)));
  }

  /** Numbers as the server sends them. */
  sheet({ values, width, height, step, sharp }) {
    const { m } = this, { channels } = this.contents.decoder, n = width * height, classes = m - channels;
    const intensity = new Uint16Array(n), label = new Uint8Array(n);
    const probability = Array.from({ length: classes }, () => new Uint8Array(n));
    for (let p = 0; p < n; p++) {
      intensity[p] = Math.round(Math.max(0, Math.min(1, values[p * m])) * 65535);
      let best = -1;
      for (let c = 0; c < classes; c++) {
        const v = values[p * m + channels + c];
        probability[c][p] = Math.round(v * 255);
        if (v > best) { best = v; label[p] = c; }
      }
    }
    return { width, height, step, level: sharp ? "sharp" : "coarse", final: sharp, intensity, label, probability };
  }

  async point(position, time) {
    const inside = mapped(this.info.region.pose, position).every((v, d) => Math.abs(v) <= this.info.region.half[d]);
    const answer = await this.ask([position], time), { channels } = this.contents.decoder;
    const [low, high] = this.info.stacks[0]?.range || [0, 1];
    return {
      inside, intensity: inside ? [low + answer[0] * (high - low)] : null, probability: [...answer.subarray(channels)],
    };
  }

  async view(name) {
    const found = this.contents.views[name];
    if (!found) throw new Error(`The view ${name} was not found in this case.`);
    return found;
  }

  /** Probabilities of the structures on a lattice over the box. */
  async volume(time) {
    const { half, pose } = this.info.region, toWorld = inverse(pose), { m } = this, { channels } = this.contents.decoder;
    let spacing = VOLUME_MM;
    while ((8 * half[0] * half[1] * half[2]) / spacing ** 3 > 90_000) spacing *= 1.1;
    const shape = half.map((v) => Math.max(2, Math.floor((2 * v) / spacing))), first = shape.map((n) => (-(n - 1) / 2) * spacing);
    const world = [];
    for (let z = 0; z < shape[2]; z++) for (let y = 0; y < shape[1]; y++) for (let x = 0; x < shape[0]; x++) {
      world.push(mapped(toWorld, [first[0] + x * spacing, first[1] + y * spacing, first[2] + z * spacing]));
    }
    const answer = await this.ask(world, time), stack = this.info.stacks[0], toVoxel = stack && inverse(stack.affine);
    // No surface of what nobody measured.
    world.forEach((place, p) => {
      if (!stack || mapped(toVoxel, place).every((v, d) => v >= -0.5 && v <= stack.shape[d] - 0.5)) return;
      answer.fill(0, p * m + channels, (p + 1) * m);
    });
    const n = world.length, structures = m - channels - 1;
    const values = new Uint8Array(n * structures);
    for (let p = 0; p < n; p++) for (let c = 0; c < structures; c++) values[c * n + p] = Math.round(answer[p * m + channels + 1 + c] * 255);
    const affine = [0, 1, 2].map((i) => [...[0, 1, 2].map((j) => toWorld[i][j] * spacing), mapped(toWorld, first)[i]]);
    return { shape, affine: [...affine, [0, 0, 0, 1]], values };
  }

  async measured(stack, frame) {
    const coding = this.contents.measured[stack];
    if (!coding) throw new Error(this.info.missing);
    if (!this.stacks.has(stack)) {
      const begun = new Predicted(this.data, this.contents.chunks, `measured ${stack}`, coding).begin();
      this.stacks.set(stack, begun.then((predicted) => new Phases(predicted, Infinity)));
    }
    const slices = (await this.stacks.get(stack)).at(frame), [nx, ny, nz] = this.info.stacks[stack].shape;
    const [x0, y0] = coding.first, values = new Uint16Array(nx * ny * nz);
    slices.forEach((slice, k) => {
      for (let i = 0; i < slice.h; i++) for (let j = 0; j < slice.w; j++) {
        values[(k * ny + y0 + i) * nx + x0 + j] = (slice.values[i * slice.w + j] / coding.steps[0]) * 257;
      }
    });
    return { stack, frame, values };
  }

  async curves() {
    return this.contents.curves;
  }

  async findings() {
    return this.contents.findings;
  }
}

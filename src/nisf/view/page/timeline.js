// Time: play, scrub, speed, and the volumes over the cycle, which can be dragged along.
import { draw, find, make } from "./dom.js";
import { bands, highest } from "./findings.js";
import { nearestFrame } from "./measured.js";

const W = 1000, H = 92, TOP = 14, BOTTOM = 78;
const SPEEDS = [[0.25, "¼×"], [0.5, "½×"], [1, "1×"], [2, "2×"]];

export class Timeline {
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.curves = null;
    this.loop = null;
  }

  open(info) {
    this.info = info;
    this.curves = null;
    this.root.hidden = !info.moves;
    if (!info.moves) return;
    const { store } = this.page;
    this.button = make("button", { class: "play", onclick: () => this.toggle() }, "▶");
    this.when = make("span", { class: "when" });
    this.svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.slider = make("input", {
      type: "range", min: 0, max: 0.999, step: 0.001, "aria-label": "Time in the cycle",
      oninput: () => store.set({ time: Number(this.slider.value), playing: false }),
    });
    const speed = make("select", { "aria-label": "Speed", onchange: (e) => store.set({ speed: Number(e.target.value) }) },
      ...SPEEDS.map(([value, words]) => make("option", { value, selected: value === store.state.speed }, words)));
    this.root.replaceChildren(
      make("div", { class: "controls" }, this.button, speed),
      make("div", { class: "scrub" }, this.svg, this.slider, this.when));
    const scrub = (event) => {
      if (!event.buttons) return;
      const box = this.svg.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      store.set({ time: Math.min(0.999, Math.max(0, share)), playing: false });
    };
    this.svg.addEventListener("pointerdown", (event) => { this.svg.setPointerCapture(event.pointerId); scrub(event); });
    this.svg.addEventListener("pointermove", scrub);
    this.drawCurves();
    this.changed(store.state);
  }

  toggle() {
    const { store } = this.page;
    store.set({ playing: !store.state.playing });
    if (store.state.playing) this.play();
  }

  /** To the next or the previous measured phase. */
  step(by) {
    const { times } = this.info, { store } = this.page, now = nearestFrame(times, store.state.time);
    store.set({ time: times[(now + by + times.length) % times.length], playing: false });
  }

  /** Frame by frame at the heart's own pace; a frame that is not there yet is waited for. */
  play() {
    const { store } = this.page, { times } = this.info;
    const cycle = this.info.stacks[0]?.cycle_ms || 1000;
    // A loop whose last tick is still due must not go on beside the one that replaces it.
    const loop = this.loop = {};
    let frame = nearestFrame(times, store.state.time), last = performance.now();
    const tick = (now) => {
      if (!store.state.playing || loop !== this.loop) return;
      const due = cycle / times.length / store.state.speed;
      if (now - last >= due && this.page.idle()) {
        last = now - last < 2 * due ? last + due : now;
        frame = (frame + 1) % times.length;
        store.set({ time: times[frame] });
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  setCurves(curves) {
    this.curves = curves;
    if (!this.info?.moves) return;
    this.drawCurves();
    this.changed(this.page.store.state);
  }

  drawCurves() {
    const { svg, info, curves } = this, { times, colours, labels } = info;
    svg.replaceChildren();
    const volumes = curves ? curves.volumes : times.map(() => null);
    const most = highest(curves);
    const x = (t) => t * W, y = (v) => BOTTOM - (v / most) * (BOTTOM - TOP);
    svg.append(draw("line", { class: "axis", x1: 0, x2: W, y1: BOTTOM, y2: BOTTOM, "vector-effect": "non-scaling-stroke" }));
    for (const t of times) {
      svg.append(draw("line", { class: "axis", x1: x(t), x2: x(t), y1: BOTTOM, y2: BOTTOM + 4, "vector-effect": "non-scaling-stroke" }));
    }
    for (let k = 1; k < labels.length; k++) {
      for (const band of bands(curves, times, k - 1, x, y)) {
        band.setAttribute("fill", colours[k]);
        svg.append(band);
      }
    }
    for (let k = 1; k < labels.length; k++) {
      const there = times.map((t, i) => [t, volumes[i]?.[k - 1]]).filter(([, v]) => v !== undefined);
      // The cycle closes: the first phase comes again at its end.
      if (there.length === times.length) there.push([1, there[0][1]]);
      svg.append(draw("polyline", {
        points: there.map(([t, v]) => `${x(t)},${y(v)}`).join(" "), fill: "none", stroke: colours[k],
        "stroke-width": 2, "vector-effect": "non-scaling-stroke", "stroke-linejoin": "round",
      }));
    }
    for (const [, t] of Object.entries(curves?.phases || {})) {
      svg.append(draw("line", { class: "named", x1: x(t), x2: x(t), y1: 4, y2: BOTTOM, "vector-effect": "non-scaling-stroke" }));
    }
    this.cursor = draw("line", { class: "cursor", y1: 0, y2: BOTTOM + 4, "vector-effect": "non-scaling-stroke" });
    svg.append(this.cursor);
    this.drawNames(curves, most);
    this.moveCursor(this.page.store.state.time);
  }

  /** Words stand beside the curves: inside they would be stretched with them. */
  drawNames(curves, most) {
    const scrub = find(".scrub", this.root);
    scrub.querySelectorAll(".word").forEach((word) => word.remove());
    const word = (words, share, top, title) => {
      const element = make("button", { class: "word", title, onclick: () => this.page.store.set({ time: share, playing: false }) }, words);
      element.style.left = `clamp(14px, ${share * 100}%, calc(100% - 14px))`;
      element.style.top = top;
      scrub.append(element);
    };
    for (const [name, t] of Object.entries(curves?.phases || {})) word(name, t, "-4px", `Go to ${name}`);
    const scale = make("span", { class: "word scale" }, curves && most > 1 ? `${most.toFixed(0)} mL` : "");
    // On the side where no phase's name is in its way.
    scale.classList.toggle("left", Object.values(curves?.phases || {}).some((t) => t > 0.9));
    scrub.append(scale);
  }

  moveCursor(time) {
    this.cursor.setAttribute("x1", time * W);
    this.cursor.setAttribute("x2", time * W);
  }

  changed(state) {
    if (!this.info?.moves) return;
    this.slider.value = state.time;
    this.moveCursor(state.time);
    this.button.textContent = state.playing ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", state.playing ? "Pause" : "Play");
    const cycle = this.info.stacks[0]?.cycle_ms;
    const { times } = this.info, own = times.findIndex((t) => Math.abs(t - state.time) < 1e-4);
    const ms = cycle ? ` · ${Math.round(state.time * cycle)} ms` : "";
    const frame = own >= 0 ? `frame ${own + 1} of ${times.length}` : "between frames";
    const done = this.curves ? this.curves.volumes.filter(Boolean).length : 0;
    const left = done < times.length ? ` · volumes of ${done} of ${times.length} frames so far` : "";
    this.when.textContent = `${(state.time * 100).toFixed(1)} % of the cycle${ms} · ${frame}${left}`;
  }
}

/** The phases in the order in which they are wanted: the one that is shown, the named ones, then those that follow it. */
export function wantedOrder(times, named, time) {
  const shown = nearestFrame(times, time), count = times.length;
  const following = Array.from({ length: count }, (_, k) => (shown + k) % count);
  return [...new Set([shown, ...named.map((t) => nearestFrame(times, t)), ...following])];
}

/** Volumes at a time (mL) of each structure, mixed linearly between phases; null where not known yet. */
export function volumesAt(curves, times, time) {
  if (!curves) return null;
  const after = times.findIndex((t) => t >= time), n = times.length;
  const b = after < 0 ? 0 : after, a = Math.abs(times[b] - time) < 1e-6 ? b : (b - 1 + n) % n;
  const [first, second] = [curves.volumes[a], curves.volumes[b]];
  if (!first || !second) return null;
  const gap = (times[b] - times[a] + 1) % 1 || 1, way = a === b ? 0 : ((time - times[a] + 1) % 1) / gap;
  return first.map((v, k) => v + way * (second[k] - v));
}

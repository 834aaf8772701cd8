// One view of a plane: asks for it, and draws what is known of it at once, wherever the plane has moved since.
import { paths } from "./contours.js";
import { composed } from "./layers.js";
import { drawOverlay } from "./overlay.js";
import { pixelOf, spacingOn } from "./planes.js";
import { add, dot, scaled } from "./vectors.js";

const MOST_PIXELS = 800;
const KEPT_SHEETS = 48;
const LAYERS = ["base", "classes", "opacity", "probability", "around", "unmeasured", "spread", "low", "high", "hidden"];

export class SliceView {
  /**
   * @param name of the view in the state.
   * @param canvas to draw on.
   * @param page the store, source, info and measured slices of the case.
   */
  constructor(name, canvas, page) {
    this.name = name;
    this.canvas = canvas;
    this.page = page;
    this.picture = document.createElement("canvas");
    this.flight = null;
    this.waiting = null;
    this.seconds = {};
    this.sheets = new Map();
    this.spreads = new Map();
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  get plane() {
    return this.page.store.state.planes[this.name];
  }

  resized() {
    const scale = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    const width = Math.max(1, Math.round(box.width * scale)), height = Math.max(1, Math.round(box.height * scale));
    if (width === this.canvas.width && height === this.canvas.height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.ask();
    this.draw();
  }

  /** A new case: nothing of the old one is shown. */
  forget() {
    this.flight?.abort.abort();
    this.flight = this.waiting = this.sheet = this.question = null;
    this.sheets.clear();
    this.spreads.clear();
    this.spreading?.abort();
  }

  /** Asks how sure the answer that is shown is, unless that is known. */
  async askSpread() {
    const { question } = this, { info, store } = this.page;
    if (!store.state.spread || !info?.draws || !question || store.state.playing) return;
    const key = JSON.stringify(question);
    if (this.spreads.has(key)) return;
    this.spreading?.abort();
    const own = this.spreading = new AbortController();
    this.page.busy(this.name, true);
    try {
      await this.page.source.spread(question, (spread) => {
        if (own !== this.spreading) return;
        if (this.spreads.size >= KEPT_SHEETS) this.spreads.clear();
        this.spreads.set(key, spread);
        this.compose();
        this.draw();
      }, own.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.page.fail(error.message);
    }
    if (own === this.spreading && !this.flight) this.page.busy(this.name, false);
  }

  /** The question for what is shown now, at the screen's own resolution. */
  current() {
    const { width, height } = this.canvas, plane = this.plane;
    const shrink = Math.max(1, Math.max(width, height) / MOST_PIXELS);
    return {
      view: this.name, centre: plane.centre, right: plane.right, down: plane.down,
      spacing: spacingOn(plane, width, height) * shrink,
      width: Math.ceil(width / shrink), height: Math.ceil(height / shrink), time: this.page.store.state.time,
    };
  }

  /** Asks for the plane; while a first answer is on its way a newer question waits for it. */
  ask() {
    if (!this.plane || !this.page.info || this.canvas.width < 8) return;
    const question = this.current(), kept = this.sheets.get(JSON.stringify(question));
    if (kept) {
      this.flight?.abort.abort();
      this.flight = this.waiting = null;
      this.page.busy(this.name, false);
      this.show(question, kept);
      return;
    }
    if (this.flight && !this.flight.answered) {
      this.waiting = question;
      return;
    }
    this.flight?.abort.abort();
    this.fly(question);
  }

  async fly(question) {
    const flight = { abort: new AbortController(), answered: false, began: performance.now() };
    this.flight = flight;
    this.waiting = null;
    this.page.busy(this.name, true);
    try {
      await this.page.source.plane(question, (sheet) => {
        if (flight !== this.flight) return;
        this.landed(flight, question, sheet);
      }, flight.abort.signal);
    } catch (error) {
      if (error.name !== "AbortError" && flight === this.flight) this.page.fail(error.message);
    }
    if (flight !== this.flight) return;
    this.flight = null;
    if (this.waiting) this.fly(this.waiting);
    else this.page.busy(this.name, false);
  }

  landed(flight, question, sheet) {
    flight.answered = true;
    this.seconds[sheet.level] = (performance.now() - flight.began) / 1000;
    this.show(question, sheet);
    if (this.waiting) {
      flight.abort.abort();
      this.fly(this.waiting);
    }
  }

  /** Shows an answer; final ones are kept for as long as nothing but the time changes, for a film. */
  show(question, sheet) {
    if (sheet.level === "sharp" && sheet.final !== false) {
      this.canvas.dataset.sharp = String(question.time);
      const key = JSON.stringify(question), place = JSON.stringify({ ...question, time: 0 });
      if (place !== this.keptPlace || this.sheets.size >= KEPT_SHEETS) this.sheets.clear();
      this.keptPlace = place;
      this.sheets.set(key, sheet);
    }
    this.question = question;
    this.sheet = sheet;
    this.compose();
    this.draw();
    if (sheet.level === "sharp") this.askSpread();
  }

  /** Colours of the answer that is there. */
  compose() {
    const { sheet, question } = this;
    if (!sheet) return;
    const { state } = this.page.store;
    const wanted = state.base !== "field" || state.around || state.unmeasured;
    const found = wanted ? this.page.measured?.at(question.time, () => { this.compose(); this.draw(); }) : null;
    this.picture.width = sheet.width;
    this.picture.height = sheet.height;
    this.picture.getContext("2d").putImageData(composed(question, sheet, state, this.page.info, found, this.spreads.get(JSON.stringify(question))), 0, 0);
    this.contours = state.classes === "contour" ? paths(sheet, state.hidden) : null;
    this.page.composed(this.name);
  }

  changed(state, changed) {
    if (!this.page.info || !this.plane) return;
    if (LAYERS.some((name) => changed.has(name))) this.compose();
    if (changed.has("spread") || changed.has("playing")) this.askSpread();
    if (changed.has("planes") || changed.has("time")) {
      const key = JSON.stringify([this.plane, state.time]);
      if (key !== this.asked) {
        this.asked = key;
        delete this.canvas.dataset.sharp;
        this.ask();
      }
    }
    this.draw();
  }

  /** The transform from the answer's texels to the screen, as the plane lies now. */
  transform() {
    const { question, sheet, plane, canvas } = this, pitch = question.spacing * sheet.step;
    const first = add(question.centre, add(
      scaled(question.right, (-(question.width - 1) / 2) * question.spacing),
      scaled(question.down, (-(question.height - 1) / 2) * question.spacing)));
    const [x, y] = pixelOf(plane, first, canvas.width, canvas.height);
    const s = spacingOn(plane, canvas.width, canvas.height);
    const along = (direction) => [
      (dot(direction, plane.right) * pitch) / s, (dot(direction, plane.down) * pitch) / s,
    ];
    return [...along(question.right), ...along(question.down), x, y];
  }

  draw() {
    const { canvas } = this, context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#0b0d10";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.plane) return;
    if (this.sheet) {
      const matrix = this.transform();
      context.setTransform(...matrix);
      context.imageSmoothingEnabled = true;
      // A texel's middle is its place; an image is drawn from a texel's corner.
      context.drawImage(this.picture, -0.5, -0.5);
      if (this.contours) this.drawContours(context, matrix);
      context.setTransform(1, 0, 0, 1, 0, 0);
    }
    drawOverlay(context, this);
  }

  drawContours(context, matrix) {
    const texel = Math.sqrt(Math.abs(matrix[0] * matrix[3] - matrix[1] * matrix[2])) || 1;
    context.lineWidth = (1.6 * (window.devicePixelRatio || 1)) / texel;
    context.lineCap = "round";
    // Where two classes meet their contours are one line: the first class of the anatomy wins.
    for (const [k, path] of [...this.contours].reverse()) {
      context.strokeStyle = this.page.info.colours[k];
      context.stroke(path);
    }
  }
}

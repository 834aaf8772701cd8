// Mouse, pen and fingers on a view: what a drag, a pinch, a wheel and a click do.
import { isFlat, nearestLine } from "./overlay.js";
import { along, moved, normal, placeAt, spacingOn, spun, tilted, zoomed } from "./planes.js";
import { add, dot, minus, scaled } from "./vectors.js";

const LINE_PX = 7;
const CLICK_PX = 4;

export class Pointer {
  constructor(view, page) {
    this.view = view;
    this.page = page;
    this.fingers = new Map();
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.finish());
  }

  /** Where an event is, in pixels of the canvas. */
  at(event) {
    const box = this.view.canvas.getBoundingClientRect(), scale = this.view.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  place([x, y]) {
    return placeAt(this.view.plane, x, y, this.view.canvas.width, this.view.canvas.height);
  }

  set(plane) {
    this.page.store.setPlane(this.view.name, plane);
  }

  down(event) {
    const { view, page } = this, at = this.at(event);
    if (!view.plane) return;
    view.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, at);
    this.start = at;
    this.travelled = 0;
    page.store.set({ active: view.name });
    if (this.fingers.size > 1) { this.mode = "pinch"; return; }
    const { state } = page.store;
    const line = state.tool === "move" && state.lines ? nearestLine(view, state, ...at) : null;
    if (event.button === 2) this.mode = "window";
    else if (event.shiftKey) this.mode = "tilt";
    else if (event.altKey) this.mode = "turn";
    else if (event.button === 1) this.mode = "move";
    else if (line && line.away < LINE_PX * (window.devicePixelRatio || 1)) { this.mode = "line"; this.line = line.other; }
    else this.mode = state.tool;
    if (this.mode === "distance" || (this.mode === "area" && !view.draft)) {
      view.draft = { kind: this.mode, points: [this.place(at)] };
    }
    page.tools[this.mode]?.down?.(view, this.place(at), event);
  }

  move(event) {
    const last = this.fingers.get(event.pointerId), at = this.at(event);
    if (!last) { this.hover(at); return; }
    const dx = at[0] - last[0], dy = at[1] - last[1];
    this.travelled += Math.hypot(dx, dy);
    if (this.mode === "pinch") this.pinch(event.pointerId, at);
    else {
      this.drag(dx, dy, last, at);
      this.page.tools[this.mode]?.move?.(this.view, this.place(at), event);
    }
    this.fingers.set(event.pointerId, at);
  }

  hover(at) {
    const { view, page } = this, { state } = page.store;
    if (!view.plane) return;
    const line = state.tool === "move" && state.lines ? nearestLine(view, state, ...at) : null;
    const near = line && line.away < LINE_PX * (window.devicePixelRatio || 1);
    view.canvas.dataset.cursor = near ? "line" : state.tool;
    page.hover(view, this.place(at), at);
  }

  drag(dx, dy, last, at) {
    const { view, page } = this, { state } = page.store, { plane, canvas } = view;
    const s = spacingOn(plane, canvas.width, canvas.height);
    if (this.mode === "move" || (this.mode === "point" && this.travelled > CLICK_PX * 2)) this.set(moved(plane, -dx * s, -dy * s));
    else if (this.mode === "tilt") {
      const angle = 3 / Math.min(canvas.width, canvas.height);
      this.set(tilted(plane, dx * angle, -dy * angle));
    } else if (this.mode === "turn") {
      const middle = [canvas.width / 2, canvas.height / 2];
      const angle = (p) => Math.atan2(p[1] - middle[1], p[0] - middle[0]);
      this.set(spun(plane, angle(at) - angle(last)));
    } else if (this.mode === "window") {
      const width = Math.max(0.02, (state.high - state.low) * (1 + dx / 300));
      const middle = (state.high + state.low) / 2 + (dy / 300) * width;
      page.store.set({ low: middle - width / 2, high: middle + width / 2 });
    } else if (this.mode === "line") this.dragLine(dx * s, dy * s);
    else if (!view.draft) return; // given up by Escape
    else if (this.mode === "distance") {
      view.draft.points[1] = this.place(at);
      view.draw();
    } else if (this.mode === "area") {
      view.draft.points.push(this.place(at));
      view.draw();
    }
  }

  /** Another view's plane follows the line that is dragged. */
  dragLine(dx, dy) {
    const { view, page } = this, other = page.store.state.planes[this.line];
    if (isFlat(view.plane, other) && Math.abs(dot(normal(view.plane), normal(other))) > 0.999) return;
    const shift = add(scaled(view.plane.right, dx), scaled(view.plane.down, dy)), n = normal(other);
    // Only the part of the way that is in this view's plane can be seen: it is made whole.
    const seen = minus(n, scaled(normal(view.plane), dot(n, normal(view.plane))));
    page.store.setPlane(this.line, along(other, dot(shift, n) / Math.max(0.05, dot(seen, seen))));
  }

  pinch(id, at) {
    const other = [...this.fingers.entries()].find(([key]) => key !== id);
    if (!other) return;
    const fixed = other[1], last = this.fingers.get(id), { canvas } = this.view;
    const size = (p) => Math.hypot(p[0] - fixed[0], p[1] - fixed[1]) || 1;
    const angle = (p) => Math.atan2(p[1] - fixed[1], p[0] - fixed[0]);
    let plane = zoomed(this.view.plane, size(at) / size(last), this.place(fixed));
    plane = spun(plane, angle(at) - angle(last), placeAt(plane, ...fixed, canvas.width, canvas.height));
    this.set(plane);
  }

  up(event) {
    const at = this.fingers.get(event.pointerId), { view, page } = this;
    if (!at) return;
    this.fingers.delete(event.pointerId);
    if (this.fingers.size || event.type === "pointercancel") return;
    const click = this.travelled < CLICK_PX * (window.devicePixelRatio || 1);
    if (this.mode === "distance") {
      if (!click && view.draft?.points[1]) this.keep(view.draft);
      view.draft = null;
    } else if (this.mode === "area") {
      if (view.draft?.points.length > 8) this.finish();
    } else if (click && this.mode === "point") page.pick(this.place(at));
    else page.tools[this.mode]?.up?.(view, this.place(at), event);
    view.draw();
  }

  /** An area is closed. */
  finish() {
    const { view } = this;
    if (view.draft?.kind === "area" && view.draft.points.length > 2) this.keep(view.draft);
    view.draft = null;
    view.draw();
  }

  keep(mark) {
    const { store } = this.page;
    store.set({ marks: [...store.state.marks, mark] });
  }

  wheel(event) {
    event.preventDefault();
    const { view } = this;
    if (!view.plane) return;
    const delta = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    if (event.ctrlKey || event.metaKey) this.set(zoomed(view.plane, Math.exp(-delta / 240), this.place(this.at(event))));
    else this.set(along(view.plane, Math.sign(delta) * Math.min(12, Math.max(1, Math.abs(delta) / 50)) * view.plane.extent / 300));
  }
}

/** Turning and zooming the view in 3D. */
export function orbit(canvas, store, onClick) {
  const fingers = new Map();
  let travelled = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const at = [event.clientX, event.clientY], { camera } = store.state;
    travelled += Math.hypot(at[0] - last[0], at[1] - last[1]);
    const other = [...fingers.entries()].find(([key]) => key !== event.pointerId)?.[1];
    if (other) {
      const size = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      store.set({ camera: { ...camera, zoom: limited(camera.zoom * size(at) / size(last)) } });
    } else {
      const lift = Math.max(-1.5, Math.min(1.5, camera.lift + (at[1] - last[1]) * 0.01));
      store.set({ camera: { ...camera, turn: camera.turn - (at[0] - last[0]) * 0.01, lift } });
    }
    fingers.set(event.pointerId, at);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      if (fingers.delete(event.pointerId) && name === "pointerup" && travelled < CLICK_PX) onClick();
    });
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { camera } = store.state;
    store.set({ camera: { ...camera, zoom: limited(camera.zoom * Math.exp(-event.deltaY / 400)) } });
  }, { passive: false });
}

const limited = (zoom) => Math.max(0.3, Math.min(8, zoom));

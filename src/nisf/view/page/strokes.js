// Corrections: paint what is there, or is not, and the case follows; undo, redo, and a file to keep.
import { find, make } from "./dom.js";
import { placeAt } from "./planes.js";
import { save } from "./takeaway.js";
import { minus, norm } from "./vectors.js";

const STEP_MM = 0.8;
const MOST_POINTS = 300;

const rounded = (point) => point.map((v) => Math.round(v * 100) / 100);

export class Strokes {
  constructor(page) {
    this.page = page;
    this.done = [];
    this.undone = [];
    this.painting = this.busy = false;
    for (const view of Object.values(page.views)) this.listen(view);
    document.addEventListener("keydown", (event) => {
      if (!this.root || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
      event.preventDefault();
      if (event.shiftKey) this.redo();
      else this.undo();
    });
  }

  /** A case was opened. */
  async open(info) {
    this.info = info;
    // Nothing is painted before the case's own strokes are known, for each request sends the whole list.
    [this.done, this.undone, this.busy] = [[], [], true];
    this.root = null;
    this.setPainting(false);
    if (!this.page.source.strokes) return;
    find("#panel").append(this.build());
    await this.page.attempt(async () => {
      const done = await this.page.source.strokes();
      if (info !== this.info) return; // another case was opened
      [this.done, this.busy] = [done, false];
      this.changed();
    });
  }

  build() {
    const { info } = this, button = (words, id, title, action) => make("button", { id, title, onclick: action }, words);
    this.label = make("select", { "aria-label": "Class to paint" }, ...info.labels.map((name, value) => make("option", { value }, name)));
    this.label.value = Math.min(1, info.labels.length - 1);
    this.absent = make("input", { type: "checkbox", "data-stroke": "absent" });
    this.widthWords = make("output", {}, "3");
    this.width = make("input", { oninput: () => { this.widthWords.textContent = this.width.value; }, type: "range", min: 1, max: 20, step: 0.5, value: 3, "aria-label": "Width of the stroke in mm" });
    this.toggle = button("Paint", "paint", "Paint with the pointer; again to end", () => this.setPainting(!this.painting));
    this.back = button("Undo", "undo", "Take the last stroke back (Ctrl+Z)", () => this.undo());
    this.forth = button("Redo", "redo", "Bring it back (Ctrl+Shift+Z)", () => this.redo());
    this.keep = button("Save", "save-strokes", "Save the strokes as a file for nisf correct", () => this.save());
    this.note = make("p", { class: "note", "aria-live": "polite" });
    this.root = make("section", { id: "strokes" }, make("h2", {}, "Correct"),
      make("div", { class: "row" }, this.label, make("label", { class: "check" }, this.absent, "is not here")),
      make("label", { class: "slide" }, "Width, mm", this.width, this.widthWords),
      make("div", { class: "row" }, this.toggle, this.back, this.forth, this.keep), this.note);
    this.changed();
    return this.root;
  }

  setPainting(is) {
    this.painting = is;
    this.changed();
  }

  changed() {
    if (!this.root) return;
    this.toggle.setAttribute("aria-pressed", String(this.painting));
    this.back.disabled = this.busy || !this.done.length;
    this.forth.disabled = this.busy || !this.undone.length;
    this.keep.disabled = !this.done.length;
    const count = this.done.length;
    this.note.textContent = this.busy ? "Following the strokes …"
      : count ? `${count} ${count === 1 ? "stroke" : "strokes"}; save them and run nisf correct to write the case again.`
        : "Paint what is there, or is not; the answer follows nearby.";
  }

  /** Painting comes before whatever else the pointer does. */
  listen(view) {
    const figure = view.canvas.parentElement;
    const at = (event) => {
      const { canvas } = view, box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
      return placeAt(view.plane, (event.clientX - box.left) * scale, (event.clientY - box.top) * scale, canvas.width, canvas.height);
    };
    let points = null;
    const only = (action) => (event) => {
      if (!points && !(this.painting && event.type === "pointerdown")) return;
      event.stopPropagation();
      action(event);
    };
    figure.addEventListener("pointerdown", only((event) => {
      if (this.busy || !view.plane || event.button) return;
      view.canvas.setPointerCapture(event.pointerId);
      points = [at(event)];
      view.draft = { kind: "point", points };
      view.draw();
    }), true);
    figure.addEventListener("pointermove", only((event) => {
      const place = at(event);
      if (points.length < MOST_POINTS && norm(minus(place, points[points.length - 1])) >= STEP_MM) points.push(place);
      view.draw();
    }), true);
    figure.addEventListener("pointerup", only(() => {
      const drawn = points;
      points = view.draft = null;
      view.draw();
      this.draw(drawn);
    }), true);
    figure.addEventListener("pointercancel", only(() => { points = view.draft = null; view.draw(); }), true);
    figure.addEventListener("dblclick", (event) => { if (this.painting) event.stopPropagation(); }, true);
  }

  draw(points) {
    const { state } = this.page.store;
    const stroke = {
      label: this.info.labels[Number(this.label.value)], present: !this.absent.checked, time: state.time % 1,
      radius_mm: Number(this.width.value) / 2, points_mm: points.map(rounded),
    };
    return this.follow([...this.done, stroke], []);
  }

  undo() {
    if (this.done.length) return this.follow(this.done.slice(0, -1), [...this.undone, this.done[this.done.length - 1]]);
  }

  redo() {
    if (this.undone.length) return this.follow([...this.done, this.undone[this.undone.length - 1]], this.undone.slice(0, -1));
  }

  /** The case follows these strokes, and every view asks again. */
  async follow(done, undone) {
    if (this.busy) return;
    const { page, info } = this;
    this.busy = true;
    this.changed();
    try {
      const followed = await page.source.strokes(done);
      if (info !== this.info) return; // another case was opened
      this.done = followed;
      this.undone = undone;
      clearTimeout(page.polling);
      page.curves = null;
      for (const view of Object.values(page.views)) { view.forget(); view.asked = null; }
      page.store.set({ planes: { ...page.store.state.planes } });
      page.solid.open(info);
      page.follow();
    } catch (error) {
      if (error.name !== "AbortError") page.say(error.message, true);
    } finally {
      if (info === this.info) this.busy = false;
      this.changed();
    }
  }

  save() {
    const text = JSON.stringify({ nisf_strokes: 1, scan: this.info.scan, strokes: this.done }, null, 2);
    save(new Blob([text], { type: "application/json" }), "strokes.json");
  }
}

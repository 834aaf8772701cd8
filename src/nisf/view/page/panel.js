// The panel: planes, layers, structures, places, what can be taken away.
import { choice, find, make, swatch } from "./dom.js";
import { findingsSection } from "./findings.js";
import { wordsOf } from "./overlay.js";
import { nearestSlice, snapsOf } from "./snaps.js";
import { saveCine, saveGif, saveLink, saveMesh, saveNifti, savePicture } from "./takeaway.js";
import { volumesAt } from "./timeline.js";

export class Panel {
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.picked = null;
  }

  open(info) {
    this.info = info;
    this.picked = null;
    this.build();
  }

  build() {
    const close = make("button", { class: "close", "aria-label": "Close the panel", onclick: () => this.page.togglePanel(false) }, "✕");
    this.root.replaceChildren(close, this.planes(), this.image(), this.structures(), findingsSection(null), this.place(), this.away());
    this.changed(this.page.store.state);
  }

  setFindings(findings) {
    const old = find("#findings", this.root);
    old?.replaceWith(findingsSection(findings));
  }

  set(changes) {
    this.page.store.set(changes);
  }

  planes() {
    const { page, info } = this, section = make("section", {}, make("h2", {}, "Plane of the chosen view"));
    const row = make("div", { class: "row" });
    for (const { id, words } of snapsOf(info)) row.append(make("button", { "data-snap": id, onclick: () => page.snap(id) }, words));
    section.append(row);
    if (info.stacks.length) {
      this.sliceWords = make("span", { class: "note" });
      section.append(make("div", { class: "row spread" },
        make("span", { class: "choice" },
          make("button", { "aria-label": "Previous measured slice", title: "Previous slice ([)", onclick: () => page.stepSlice(-1) }, "‹"),
          make("button", { "aria-label": "Next measured slice", title: "Next slice (])", onclick: () => page.stepSlice(1) }, "›")),
        this.sliceWords));
    }
    return section;
  }

  check(words, name, title) {
    const box = make("input", { type: "checkbox", "data-check": name, onchange: () => this.set({ [name]: box.checked }) });
    return make("label", { class: "check", title }, box, words);
  }

  slide(words, name, min, max, step) {
    const input = make("input", { type: "range", min, max, step, "data-slide": name, oninput: () => this.set({ [name]: Number(input.value) }) });
    return make("label", { class: "slide" }, words, input, make("output"));
  }

  image() {
    const { info } = this, there = this.page.measured.there;
    const options = [["field", "Field"], ["measured", "Measured"], ["difference", "Difference"], ["none", "None"]];
    this.baseChoice = choice("Image", options, null, (base) => this.set({ base }));
    const section = make("section", {}, make("h2", {}, "Image"), make("div", {}, this.baseChoice));
    if (!there) {
      for (const value of ["measured", "difference"]) find(`[data-value="${value}"]`, this.baseChoice).disabled = true;
      section.append(make("p", { class: "note warn" }, info.missing || "The scan's own pixels are not available."));
    } else {
      section.append(this.check("Measured pixels around the region", "around"), this.check("Hatch what was not measured", "unmeasured"));
    }
    section.append(this.check("Lines of the other planes", "lines"), this.slide("Black", "low", -0.5, 1, 0.01), this.slide("White", "high", 0, 1.5, 0.01));
    return section;
  }

  structures() {
    const { info } = this, section = make("section", {}, make("h2", {}, "Structures"));
    this.table = make("tbody");
    this.head = make("tr");
    section.append(make("table", {}, make("thead", {}, this.head), this.table));
    this.classChoice = choice("Classes", [["contour", "Contour"], ["fill", "Fill"], ["none", "Off"]], null, (classes) => this.set({ classes }));
    this.probability = make("select", { "aria-label": "Probability", onchange: (e) => this.set({ probability: Number(e.target.value) }) },
      make("option", { value: 0 }, "No probability"),
      ...info.labels.slice(1).map((name, k) => make("option", { value: k + 1 }, `Probability of ${name}`)));
    section.append(make("div", {}, this.classChoice), this.slide("Opacity", "opacity", 0, 1, 0.05), this.probability);
    const spread = this.check("Uncertainty: spread over 16 draws", "spread", "Standard deviation of the probabilities, as nisf render --std; dark blue 0, yellow 0.5");
    if (!info.draws) {
      find("input", spread).disabled = true;
      spread.title = "There are no draws in this page.";
    }
    section.append(spread, make("div", { class: "ramp", "aria-hidden": "true" }, make("span", {}, "0"), make("i"), this.rampEnd = make("span", {}, "0.5")));
    return section;
  }

  rows(state) {
    const { info, page } = this, { curves } = page;
    const now = volumesAt(curves, info.times, state.time);
    const named = Object.entries(curves?.phases || {});
    this.head.replaceChildren(make("th", { title: curves?.integrated ? "Integrated over the field" : "Voxels of the measured stack, until the field is integrated" }, "Volume, mL"), make(info.moves ? "th" : "td", { class: "number" }, info.moves ? "now" : ""),
      ...named.map(([name]) => make("th", { class: "number" }, name)));
    this.table.replaceChildren(...info.labels.slice(1).map((name, n) => {
      const k = n + 1, box = make("input", {
        type: "checkbox", checked: !state.hidden.includes(k), "aria-label": `Show ${name}`,
        onchange: () => this.set({ hidden: box.checked ? state.hidden.filter((h) => h !== k) : [...state.hidden, k] }),
      });
      const number = (v) => make("td", { class: "number" }, v === undefined || v === null ? "–" : v.toFixed(1));
      return make("tr", {}, make("td", {}, make("label", { class: "check" }, box, swatch(info.colours[k]), name)),
        number(now?.[n]), ...named.map(([, t]) => number(volumesAt(curves, info.times, t)?.[n])));
    }));
  }

  place() {
    this.placeBox = make("div", { class: "note" });
    this.marks = make("div");
    return make("section", {}, make("h2", {}, "Place and rulers"), this.placeBox, this.marks);
  }

  /** What the field says of a place. */
  showPlace(picked) {
    this.picked = picked;
    const { position, answer } = picked, { info } = this;
    const where = position.map((v) => v.toFixed(1)).join(", ");
    const rows = [make("tr", {}, make("td", {}, "Place (mm)"), make("td", { class: "number" }, where))];
    if (answer && !answer.inside) rows.push(make("tr", {}, make("td", {}, "Outside the region"), make("td")));
    if (answer?.inside) {
      rows.push(make("tr", {}, make("td", {}, "Intensity"), make("td", { class: "number" }, answer.intensity.map((v) => v.toPrecision(4)).join(", "))));
      answer.probability.forEach((p, k) => rows.push(make("tr", {},
        make("td", {}, make("span", { class: "row" }, swatch(info.colours[k]), info.labels[k])),
        make("td", { class: "number" }, `${(100 * p).toFixed(1)} %`))));
    }
    this.placeBox.replaceChildren(make("table", {}, make("tbody", {}, ...rows)));
  }

  away() {
    const { page } = this, button = (words, action, title) => make("button", { title, onclick: () => page.attempt(action) }, words);
    const row = make("div", { class: "row" },
      button("Picture", () => savePicture(page), "PNG of the chosen view (S)"), button("Link", () => saveLink(page), "Copy a link to this very view (L)"));
    if (this.info.moves) row.append(button("Film", () => saveCine(page), "WebM of two cycles of the chosen view"), button("GIF", () => saveGif(page), "Animated GIF of one cycle of the chosen view"));
    row.append(button("Mesh", () => saveMesh(page), "Surfaces now, as STL"), button("NIfTI", () => saveNifti(page), "Classes on the plane that is shown"));
    return make("section", {}, make("h2", {}, "Export"), row);
  }

  drawMarks(state) {
    const rows = state.marks.map((mark, index) => make("div", { class: "row spread" },
      make("span", {}, `${mark.kind === "area" ? "Area" : "Distance"}: ${wordsOf(mark)}`),
      make("button", { "aria-label": "Remove this ruler", onclick: () => this.set({ marks: state.marks.filter((_, i) => i !== index) }) }, "✕")));
    this.marks.replaceChildren(...rows);
    if (!this.picked) this.placeBox.textContent = "Choose Point and click to ask the field; Distance or Area to measure.";
  }

  changed(state) {
    if (!this.info) return;
    for (const box of this.root.querySelectorAll("[data-check]")) box.checked = state[box.dataset.check];
    for (const input of this.root.querySelectorAll("[data-slide]")) {
      input.value = state[input.dataset.slide];
      find("output", input.parentElement).textContent = Number(state[input.dataset.slide]).toFixed(2);
    }
    for (const [group, value] of [[this.baseChoice, state.base], [this.classChoice, state.classes]]) {
      for (const button of group.children) button.setAttribute("aria-pressed", String(button.dataset.value === value));
    }
    this.probability.value = state.probability;
    const ramp = find(".ramp", this.root);
    ramp.hidden = !state.spread && !state.probability;
    this.rampEnd.textContent = state.probability ? "100 %" : "0.5";
    const plane = state.planes[state.active], stack = this.info.stacks[0];
    if (plane && stack) this.sliceWords.textContent = `Measured slice ${nearestSlice(stack, plane.centre) + 1} of ${stack.shape[2]}`;
    for (const button of this.root.querySelectorAll("[data-snap]")) {
      button.classList.toggle("chosen", this.page.names[state.active] === button.dataset.snap);
    }
    this.rows(state);
    this.drawMarks(state);
  }
}

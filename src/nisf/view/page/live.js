// A fit step by step: pictures of the measured slice and of the field, and the loss.
import { draw, make } from "./dom.js";
import { rgb } from "./layers.js";

const W = 600, H = 84, SHOWN = 0.4;

/** Grey with the classes' colours over it. */
export function tinted(size, shade, label, colours) {
  const image = new ImageData(size, size), inks = colours.map(rgb);
  for (let n = 0; n < size * size; n++) {
    const ink = label[n] ? inks[label[n]] : null;
    for (let c = 0; c < 3; c++) image.data[4 * n + c] = ink ? shade[n] * (1 - SHOWN) + ink[c] * SHOWN : shade[n];
    image.data[4 * n + 3] = 255;
  }
  return image;
}

export class LiveFit {
  constructor(root) {
    this.root = root;
    this.steps = [];
  }

  /** A case is being opened; `stop` ends its fit. */
  begin(stop) {
    this.steps = [];
    this.root.hidden = true;
    this.panels = make("div", { class: "panels" });
    this.plot = draw("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img" });
    this.words = make("p", { class: "quiet" });
    this.button = make("button", { onclick: stop }, "Stop the fit");
    this.root.replaceChildren(this.panels, this.plot, this.words, this.button);
  }

  /** One step: `panels` are names, and `buffer` has their intensities and classes in turn. */
  show({ step, most, loss, size, panels, colours, buffer }) {
    this.root.hidden = false;
    this.steps.push([step, loss]);
    while (this.panels.children.length < panels.length) {
      this.panels.append(make("figure", {}, make("canvas", { width: size, height: size, role: "img" }), make("figcaption", {})));
    }
    panels.forEach((name, k) => {
      const figure = this.panels.children[k], canvas = figure.firstChild, n = size * size;
      const shade = new Uint8Array(buffer, 2 * k * n, n), label = new Uint8Array(buffer, (2 * k + 1) * n, n);
      canvas.getContext("2d").putImageData(tinted(size, shade, label, colours), 0, 0);
      canvas.setAttribute("aria-label", `${name} at step ${step}`);
      figure.lastChild.textContent = name;
    });
    this.drawLoss(most);
    this.words.textContent = `Loss of the intensities ${loss.toFixed(4)}, at first ${this.steps[0][1].toFixed(4)}`;
  }

  /** The loss against the steps; the axis grows with what was seen. */
  drawLoss(most) {
    const values = this.steps.map(([, loss]) => loss), low = Math.min(...values), high = Math.max(...values);
    const x = (step) => (step / Math.max(1, most)) * W, y = (loss) => H - 4 - ((loss - low) / (high - low || 1)) * (H - 8);
    this.plot.replaceChildren(
      draw("line", { class: "axis", x1: 0, x2: W, y1: H - 1, y2: H - 1, "vector-effect": "non-scaling-stroke" }),
      draw("polyline", { points: this.steps.map(([step, loss]) => `${x(step)},${y(loss)}`).join(" ") }),
    );
    this.plot.setAttribute("aria-label", `Loss over ${this.steps.length} steps shown, from ${high.toFixed(4)} to ${low.toFixed(4)}`);
  }

  /** The fit was stopped; `again` starts it anew. */
  stopped(again) {
    this.root.hidden = false;
    this.button.replaceWith(this.button = make("button", { onclick: again }, "Fit again"));
  }
}

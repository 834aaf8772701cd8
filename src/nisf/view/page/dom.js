// Elements in few words; no text is ever taken for HTML.

/** An element with attributes (`on…` are listeners) and children (strings are text). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Likewise for SVG. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const find = (selector, within = document) => within.querySelector(selector);

/** A few buttons of which one is pressed. */
export function choice(label, options, chosen, onChoice) {
  const group = make("span", { class: "choice", role: "group", "aria-label": label });
  for (const [value, words] of options) {
    group.append(make("button", {
      "aria-pressed": String(value === chosen), "data-value": value, onclick: () => onChoice(value),
    }, words));
  }
  return group;
}

/** A colour swatch; its colour is set as a property, which the page's policy allows. */
export function swatch(colour) {
  const element = make("span", { class: "swatch", "aria-hidden": "true" });
  element.style.setProperty("--swatch", colour);
  return element;
}

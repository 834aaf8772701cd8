// The page as one file: its answers come from what it carries.
import { Page } from "./page.js";
import { StaticSource } from "./static-source.js";

function bytesOf(text) {
  const letters = atob(text), out = new Uint8Array(letters.length);
  for (let n = 0; n < letters.length; n++) out[n] = letters.charCodeAt(n);
  return out;
}

const text = (id) => document.getElementById(id).textContent;
const contents = JSON.parse(text("nisf-contents"));
window.nisfPage = new Page(new StaticSource(contents, bytesOf(text("nisf-data")), text("nisf-worker")));
window.nisfPage.start();

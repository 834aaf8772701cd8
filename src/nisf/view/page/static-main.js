// The page as one file: its answers come from what it carries.
import { Page } from "./page.js";
import { bytesOf } from "./wide-text.js";
import { StaticSource } from "./static-source.js";

const text = (id) => document.getElementById(id).textContent;
const contents = JSON.parse(text("nisf-contents"));
window.nisfPage = new Page(new StaticSource(contents, bytesOf(text("nisf-data"), contents.bytes), text("nisf-worker")));
window.nisfPage.start();

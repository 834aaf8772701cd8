// The page as nisf view serves it: its answers come from the server.
import { Page } from "./page.js";
import { ServerSource } from "./server-source.js";

window.nisfPage = new Page(new ServerSource());
window.nisfPage.start();

// A worker that decodes: it is told the file's contents once, then places and times.
import { Decoder } from "./decoder.js";
import { Phases, Predicted } from "./prediction.js";
import { features, unpacked } from "./unpacking.js";

let decoder = null, contents = null, numbers = null, basis = null, middle = null, most = 2;
const phases = new Map();

async function begin(message) {
  const { data, bytes } = message;
  contents = message.contents;
  const names = ["each0", "each1", "join0", "join1", "head", "direct"].flatMap((n) => [`${n}.weight`, `${n}.bias`]);
  const weights = {};
  for (const name of names) if (contents.chunks[name]) weights[name] = await unpacked(data, contents.chunks[name]);
  basis = await unpacked(data, contents.chunks.basis);
  middle = await unpacked(data, contents.chunks.middle);
  const { coding } = contents.decoder, blocks = Math.max(...coding.sizes.map((all) => all.reduce((sum, [h, w]) => sum + h * w, 0)));
  most = Math.max(4, Math.floor(bytes / (4 * blocks * basis.shape[1])));
  numbers = new Phases(await new Predicted(data, contents.chunks, "features", coding).begin(), 3);
  decoder = new Decoder(contents.decoder, weights, (t) => phases.get(t));
}

/** Unpacks the phases that a time needs; as many as there is memory for are kept. */
function ready(time) {
  for (const [t] of decoder.weightsAt(time)) {
    if (phases.has(t)) continue;
    phases.set(t, numbers.at(t).map((found) => features(found, basis, middle, contents.decoder.coding.block)));
    if (phases.size > most) phases.delete(phases.keys().next().value);
  }
}

let turn = Promise.resolve();

self.onmessage = ({ data: message }) => {
  turn = turn.then(async () => {
    if (message.contents) {
      await begin(message);
      return;
    }
    ready(message.time);
    const answer = decoder.answer(message.places, message.time);
    self.postMessage({ number: message.number, answer }, [answer.buffer]);
  }).catch((error) => self.postMessage({ number: message.number, error: String(error.message || error) }));
};

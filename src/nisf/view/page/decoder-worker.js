// A worker that decodes: it is told the file's contents once, then places and times.
import { Decoder } from "./decoder.js";
import { Phases, Predicted } from "./prediction.js";
import { features, Recent, unpacked } from "./unpacking.js";

let decoder = null, contents = null, numbers = null, basis = null, middle = null, phases = null;

async function begin(message) {
  const { data, bytes } = message;
  contents = message.contents;
  const names = ["each0", "each1", "join0", "join1", "head", "direct"].flatMap((n) => [`${n}.weight`, `${n}.bias`]);
  const weights = {};
  for (const name of names) if (contents.chunks[name]) weights[name] = await unpacked(data, contents.chunks[name]);
  basis = await unpacked(data, contents.chunks.basis);
  middle = await unpacked(data, contents.chunks.middle);
  const { coding } = contents.decoder, blocks = Math.max(...coding.sizes.map((all) => all.reduce((sum, [h, w]) => sum + h * w, 0)));
  phases = new Recent(Math.max(4, Math.floor(bytes / (4 * blocks * basis.shape[1]))));
  numbers = new Phases(await new Predicted(data, contents.chunks, "features", coding).begin(), 3);
  decoder = new Decoder(contents.decoder, weights, (t) => phases.get(t, () => phase(t)));
}

/** Features of a phase, slice by slice. */
function phase(t) {
  return numbers.at(t).map((found) => features(found, basis, middle, contents.decoder.coding.block));
}

let turn = Promise.resolve();

self.onmessage = ({ data: message }) => {
  turn = turn.then(async () => {
    if (message.contents) {
      await begin(message);
      return;
    }
    const answer = decoder.answer(message.places, message.time);
    self.postMessage({ number: message.number, answer }, [answer.buffer]);
  }).catch((error) => self.postMessage({ number: message.number, error: String(error.message || error) }));
};

// Whole numbers out of bytes at the entropy of tables; see nisf.view.entropy.

const BITS = 12, TOTAL = 1 << BITS, HALF = 127, ESCAPE = 255, WIDE = 24, SHARP = 7, WIDTH = ESCAPE + 1;

/** Context of a number whose magnitude is expected to be so large. */
export function context(expected) {
  const x = Math.min(Math.floor(16 * expected), 1048576) + 4, power = 31 - Math.clz32(x);
  return (power - 2) * 4 + ((x >> (power - 2)) & 3);
}

/** Frequencies by context and symbol, laid out for decoding. */
export class Table {
  constructor({ shape: [contexts], values }) {
    this.width = values;
    this.first = new Uint16Array(contexts * WIDTH);
    this.symbol = new Uint8Array(contexts * TOTAL);
    for (let c = 0; c < contexts; c++) {
      let at = 0;
      for (let s = 0; s < WIDTH; s++) {
        this.first[c * WIDTH + s] = at;
        const next = at + values[c * WIDTH + s];
        this.symbol.fill(s, c * TOTAL + at, c * TOTAL + next);
        at = next;
      }
    }
  }
}

/** One stream of numbers. */
export class Stream {
  constructor(bytes) {
    this.bytes = bytes;
    this.state = new Uint32Array(1);
    this.state[0] = bytes[0] + bytes[1] * 256 + bytes[2] * 65536 + bytes[3] * 16777216;
    this.at = 4;
  }

  /** Takes an interval off the state. */
  step(first, width) {
    const state = this.state[0], next = width * (state >>> BITS) + (state & (TOTAL - 1)) - first;
    if (next < 65536) {
      this.state[0] = next * 65536 + this.bytes[this.at] + this.bytes[this.at + 1] * 256;
      this.at += 2;
    } else this.state[0] = next;
  }

  /** So many plain bits, `BITS` at most. */
  plain(bits) {
    const value = (this.state[0] & (TOTAL - 1)) >> (BITS - bits);
    this.step(value << (BITS - bits), TOTAL >> bits);
    return value;
  }

  /** The next number. */
  number(table, where) {
    const symbol = table.symbol[where * TOTAL + (this.state[0] & (TOTAL - 1))], at = where * WIDTH + symbol;
    this.step(table.first[at], table.width[at]);
    if (symbol === ESCAPE) {
      const high = this.plain(BITS);
      return high * TOTAL + this.plain(BITS) - (1 << (WIDE - 1));
    }
    const low = Math.min(BITS, (where >> 2) + 2 - SHARP);
    return low > 0 ? (symbol - HALF) * (1 << low) + this.plain(low) : symbol - HALF;
  }
}

// What a pane says in words about its slices.

export class Captions {
  constructor(words, language) {
    this.words = words;
    this.percent = new Intl.NumberFormat(language, { style: "percent" });
    this.number = new Intl.NumberFormat(language, { maximumSignificantDigits: 4 });
  }

  image(slice) {
    return fill(this.words.slice, { number: slice.position + 1 });
  }

  describe(slices, index) {
    const slice = slices[index];
    const found = [fill(this.words.position, { number: index + 1, total: slices.length })];
    if (slice.problem) found.push(slice.problem);
    else if (slice.tumor === null) found.push(this.words.waiting);
    else found.push(slice.label, this.chance(slice));
    if (slice.is_key) found.push(this.words.key);
    if (slice.strange) found.push(this.words.strange);
    return found.join(", ");
  }

  // Never "100%" or "0%" for what is not: rounding must not feign certainty.
  chance({ tumor }) {
    let percent = this.percent.format(tumor);
    if (tumor >= 0.995) percent = `>\u00a0${this.percent.format(0.99)}`;
    else if (tumor < 0.005) percent = `<\u00a0${this.percent.format(0.01)}`;
    return fill(this.words.tumor, { percent });
  }

  // Where the patient's sides are, as a sentence.
  orientation(edges) {
    if (!edges) return this.words.unknown;
    const inWords = (letters) => [...letters].map((letter) => this.words[letter]).join(", ");
    const sides = Object.entries(edges).map(([side, letters]) => [side, inWords(letters)]);
    return fill(this.words.oriented, Object.fromEntries(sides));
  }

  window(window) {
    if (!window) return "";
    const { level, width } = this.words;
    return `${level} ${this.number.format(window.centre)}  ${width} ${this.number.format(window.width)}`;
  }
}

export function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_all, name) => values[name]);
}

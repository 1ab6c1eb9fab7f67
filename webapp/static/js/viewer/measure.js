// Lengths measured in a slice: lines in an SVG over the stage, with mouse, touch and keys.
import { clamp, lengthOf } from "./geometry.js";
import { shape } from "./svg.js";

const TOO_SHORT = 3; // pixels of the screen: a click, not a length

export class Measures {
  // `toStage` turns a point in pixels of the slice into one of the stage.
  constructor(layer, { toStage, words, language }) {
    Object.assign(this, { layer, toStage, words });
    this.ofSlice = new Map(); // image id -> lines
    this.slice = null;
    this.open = null; // the line being drawn
    this.cursor = null; // where the keys are, while they are used
    const style = { style: "unit", unit: "millimeter", maximumFractionDigits: 1 };
    this.millimetres = new Intl.NumberFormat(language, style);
    this.plain = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
  }

  show(slice) {
    if (this.slice?.id !== slice.id) this.open = null;
    this.slice = slice;
    this.draw();
  }

  get lines() {
    return this.ofSlice.get(this.slice?.id) || [];
  }

  begin(point) {
    this.open = { from: this.inside(point), to: this.inside(point) };
    this.draw();
  }

  drawTo(point) {
    if (!this.open) return;
    this.open.to = this.inside(point);
    this.draw();
  }

  end() {
    if (this.open && this.screenLength(this.open) >= TOO_SHORT) {
      this.ofSlice.set(this.slice.id, [...this.lines, this.open]);
    }
    this.open = null;
    this.draw();
  }

  removeLast() {
    this.ofSlice.set(this.slice.id, this.lines.slice(0, -1));
    this.draw();
  }

  clear() {
    this.ofSlice.clear();
    this.leaveKeys();
  }

  leaveKeys() {
    this.open = null;
    this.cursor = null;
    this.draw();
  }

  // Arrows move a cross, Enter sets both ends. Returns whether the key was meant for it.
  onKey(event) {
    const step = event.shiftKey ? 10 : 1;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (way) {
      this.cursor ||= { x: this.slice.width / 2, y: this.slice.height / 2 };
      const { x, y } = this.cursor;
      this.cursor = this.inside({ x: x + way[0] * step, y: y + way[1] * step });
      if (this.open) this.open.to = this.cursor;
    } else if (event.key === "Enter" && this.cursor) {
      if (this.open) this.end();
      else this.open = { from: this.cursor, to: this.cursor };
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.removeLast();
    } else if (event.key === "Escape" && (this.open || this.cursor)) {
      this.leaveKeys();
    } else {
      return false;
    }
    this.draw();
    return true;
  }

  textOf(line) {
    const length = lengthOf(this.slice, line.from, line.to);
    if (this.slice.spacing) return this.millimetres.format(length);
    return `${this.plain.format(length)} ${this.words.pixels}`;
  }

  inside({ x, y }) {
    return { x: clamp(x, 0, this.slice.width), y: clamp(y, 0, this.slice.height) };
  }

  screenLength(line) {
    const [from, to] = [this.toStage(line.from), this.toStage(line.to)];
    return Math.hypot(to.x - from.x, to.y - from.y);
  }

  draw() {
    if (!this.slice) return;
    const shown = this.open ? [...this.lines, this.open] : this.lines;
    this.layer.replaceChildren(...shown.flatMap((line) => this.drawn(line)), ...this.cross());
  }

  drawn(line) {
    const [from, to] = [this.toStage(line.from), this.toStage(line.to)];
    const ends = { x1: from.x, y1: from.y, x2: to.x, y2: to.y };
    const text = shape("text", { x: (from.x + to.x) / 2 + 10, y: (from.y + to.y) / 2 - 8 });
    text.textContent = this.textOf(line);
    return [
      shape("line", { ...ends, class: "under" }),
      shape("line", ends),
      shape("circle", { cx: from.x, cy: from.y, r: 4 }),
      shape("circle", { cx: to.x, cy: to.y, r: 4 }),
      text,
    ];
  }

  cross() {
    if (!this.cursor) return [];
    const { x, y } = this.toStage(this.cursor);
    return [shape("path", { d: `M${x - 12} ${y}h24M${x} ${y - 12}v24`, class: "cross" })];
  }
}

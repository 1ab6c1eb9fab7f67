// A region drawn into a slice: a box or a freehand line, with mouse, touch and keys.
import { clamp } from "./geometry.js";
import { shape } from "./svg.js";

export const REGION_TOOLS = ["box", "outline"];
const MOST_POINTS = 200;
const TOO_SMALL = 6; // pixels of the screen: a click, not a region
const APART = 3; // pixels of the screen between points of a freehand line

export class RegionTool {
  // `tool()` is "box" or "outline" while one of them is chosen. `mayDraw()` says whether the slice
  // on the screen is the one that is assessed; `onChange(points)` gets fractions of width and
  // height, or null.
  constructor(pane, { tool, mayDraw, onChange }) {
    Object.assign(this, { pane, tool, mayDraw, onChange });
    this.layer = shape("svg", { class: "marks regions", "aria-hidden": "true", focusable: "false" });
    pane.stage.append(this.layer);
    this.points = null;
    this.imageId = null;
    this.before = []; // what undo goes back to
    this.open = null; // points of what is being drawn
    this.cursor = null; // where the keys are, while they are used
    pane.region = this;
  }

  // What is kept of the slice `imageId`, as the form says it.
  show(points, imageId) {
    if (imageId !== this.imageId) this.before = [];
    Object.assign(this, { points, imageId, open: null, cursor: null });
    this.draw();
  }

  get canUndo() {
    return this.before.length > 0;
  }

  set(points) {
    this.before.push(this.points);
    this.points = points;
    this.imageId = this.pane.slice.id;
    this.tell();
  }

  undo() {
    if (!this.canUndo) return;
    this.points = this.before.pop();
    this.tell();
  }

  clear() {
    if (this.points) this.set(null);
    this.leaveKeys();
  }

  tell() {
    this.open = null;
    this.draw();
    this.onChange(this.points);
  }

  // ---- Mouse and touch -----------------------------------------------------------------------

  drag(event) {
    if (!this.mayDraw()) return { move() {}, stop() {} };
    this.leaveKeys();
    const start = this.fraction(event);
    const isBox = this.tool() === "box";
    this.open = [start];
    return {
      move: (later) => {
        const now = this.fraction(later);
        if (isBox) this.open = corners(start, now);
        else if (this.apart(now, this.open.at(-1)) >= APART) this.open.push(now);
        this.draw();
      },
      stop: () => this.end(),
    };
  }

  end() {
    const drawn = this.open;
    this.open = null;
    if (drawn && drawn.length >= 3 && this.extent(drawn) >= TOO_SMALL) this.set(simplified(drawn));
    else this.draw();
  }

  // ---- Keys ----------------------------------------------------------------------------------

  // Arrows move a cross, Enter sets a corner. Returns whether the key was meant for it.
  onKey(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (way) this.moveCursor(way, event.shiftKey ? 10 : 1);
    else if (event.key === "Enter") this.setCorner();
    else if (event.key === "Backspace" && this.open) this.open = this.open.length > 1 ? this.open.slice(0, -1) : null;
    else if (event.key === "Backspace" || event.key === "Delete") this.clear();
    else if (event.key === "Escape" && (this.open || this.cursor)) this.leaveKeys();
    else return false;
    this.draw();
    return true;
  }

  moveCursor([x, y], step) {
    const { slice } = this.pane;
    this.cursor ||= [0.5, 0.5];
    this.cursor = [
      clamp(this.cursor[0] + (x * step) / slice.width, 0, 1),
      clamp(this.cursor[1] + (y * step) / slice.height, 0, 1),
    ];
    if (this.open && this.tool() === "box") this.open = corners(this.open[0], this.cursor);
  }

  setCorner() {
    if (!this.mayDraw()) return;
    this.cursor ||= [0.5, 0.5];
    if (!this.open) {
      this.open = [this.cursor];
    } else if (this.tool() === "box" || this.apart(this.cursor, this.open.at(-1)) < 1) {
      this.end(); // the second corner of a box, or the same corner of a line twice
    } else {
      this.open.push(this.cursor);
    }
  }

  leaveKeys() {
    this.open = null;
    this.cursor = null;
    this.draw();
  }

  // ---- On the screen -------------------------------------------------------------------------

  fraction(event) {
    const { slice } = this.pane;
    const { x, y } = this.pane.fromStage(event);
    return [clamp(x / slice.width, 0, 1), clamp(y / slice.height, 0, 1)];
  }

  toStage([x, y]) {
    const { slice } = this.pane;
    return this.pane.toStage({ x: x * slice.width, y: y * slice.height });
  }

  apart(one, other) {
    const [a, b] = [this.toStage(one), this.toStage(other)];
    return Math.hypot(a.x - b.x, a.y - b.y);
  }

  extent(points) {
    const places = points.map((point) => this.toStage(point));
    const size = (name) => Math.max(...places.map((p) => p[name])) - Math.min(...places.map((p) => p[name]));
    return Math.min(size("x"), size("y"));
  }

  draw() {
    if (!this.pane.series) return;
    const kept = this.imageId === this.pane.slice.id ? this.points : null;
    const shown = this.open || kept;
    const drawn = shown ? this.outline(shown, { closed: !this.open || this.tool() === "box" }) : [];
    if (this.cursor) {
      const { x, y } = this.toStage(this.cursor);
      drawn.push(shape("path", { d: `M${x - 12} ${y}h24M${x} ${y - 12}v24`, class: "cross" }));
    }
    this.layer.replaceChildren(...drawn);
  }

  outline(points, { closed }) {
    const places = points.map((point) => this.toStage(point));
    const text = places.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
    const kind = closed ? "polygon" : "polyline";
    const lines = [shape(kind, { points: text, class: "under" }), shape(kind, { points: text, class: "region" })];
    const dots = points.length <= 4 ? places.map(({ x, y }) => shape("circle", { cx: x, cy: y, r: 4 })) : [];
    return [...lines, ...dots];
  }
}

function corners([x, y], [otherX, otherY]) {
  return [[x, y], [otherX, y], [otherX, otherY], [x, otherY]]; // prettier-ignore
}

// At most as many points as are taken, in four digits: a coarser line until they are few enough.
function simplified(points) {
  let found = points;
  for (let tolerance = 0.001; found.length > MOST_POINTS || found === points; tolerance *= 1.5) {
    found = douglasPeucker(points, tolerance);
  }
  if (found.length < 3) found = points.slice(0, MOST_POINTS);
  return found.map(([x, y]) => [Number(x.toFixed(4)), Number(y.toFixed(4))]);
}

// Ramer, Douglas and Peucker: the ends, and what lies farther from the line than the tolerance.
function douglasPeucker(points, tolerance) {
  const keep = new Set([0, points.length - 1]);
  const parts = [[0, points.length - 1]];
  while (parts.length) {
    const [from, to] = parts.pop();
    let farthest = 0;
    let where = 0;
    for (let index = from + 1; index < to; index += 1) {
      const distance = offLine(points[index], points[from], points[to]);
      if (distance > farthest) [farthest, where] = [distance, index];
    }
    if (farthest <= tolerance) continue;
    keep.add(where);
    parts.push([from, where], [where, to]);
  }
  return points.filter((_point, index) => keep.has(index));
}

function offLine([x, y], [fromX, fromY], [toX, toY]) {
  const length = Math.hypot(toX - fromX, toY - fromY);
  if (!length) return Math.hypot(x - fromX, y - fromY);
  return Math.abs((toX - fromX) * (fromY - y) - (fromX - x) * (toY - fromY)) / length;
}

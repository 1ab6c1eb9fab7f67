// One stack of slices on the page: what is seen, where, and what pointers, wheel and keys do to it.
import { clamp, fittedBox, screenScale } from "./geometry.js";
import { automatic, fileWindow, fullRange, loadGreys, paint } from "./greys.js";
import { Measures } from "./measure.js";
import { REGION_TOOLS } from "./region.js";
import { ScaleBar } from "./scale.js";
import { Strip } from "./strip.js";

const MAX_ZOOM = 16;
const PAN_STEP = 40; // pixels of the screen for one press of an arrow key
const AHEAD = 4; // neighbours fetched before they are asked for, in the direction of travel
const STALE_AFTER = 150; // milliseconds after which a slice that is not there yet is dimmed
const LINE = 33; // pixels that a wheel which counts in lines means by one
const NOTCH = 100; // pixels of one notch of a wheel
const TRACKPAD_STEP = 30; // pixels of two fingers for one slice

const idOf = /0{8}-0{4}-0{4}-0{4}-0{12}/;

export class Pane {
  // onSlice(pane) and onWindow(pane) are told of changes; tool() is what a drag does now.
  constructor(element, { urls, words, language, tool, onSlice, onWindow, onZoom }) {
    Object.assign(this, { element, urls, words, tool, onSlice, onWindow, onZoom });
    const part = (name) => element.querySelector(`[data-${name}]`);
    this.stage = part("stage");
    this.layers = part("layers");
    this.frame = part("frame");
    this.picture = part("slice");
    this.canvas = part("greys");
    this.heat = part("heat");
    this.notes = { error: part("stage-error"), wait: part("stage-wait"), problem: part("stage-problem") };
    this.corners = { slice: part("corner-slice"), answer: part("corner-answer"), window: part("corner-window") };
    this.edges = element.querySelectorAll("[data-edge]");
    this.unknown = part("unknown");
    this.orientation = part("orientation");
    this.scaleBar = new ScaleBar(part("scale"), language);
    this.view = { zoom: 1, x: 0, y: 0 };
    this.window = null; // null: as the server shows each slice
    this.warm = { on: true, opacity: 0.6 };
    this.turn = 0;
    this.fetched = new Set();
    this.percent = new Intl.NumberFormat(language, { style: "percent" });
    this.number = new Intl.NumberFormat(language, { maximumSignificantDigits: 4 });
    this.measures = new Measures(part("marks"), { toStage: (point) => this.toStage(point), words, language });
    this.strip = new Strip(part("strip"), { onGo: (index) => this.go(index), tell: (index) => this.describe(index) });
    this.listen();
  }

  get slices() {
    return this.series.slices;
  }

  get slice() {
    return this.slices[this.index];
  }

  address(kind, slice = this.slice) {
    return this.urls[kind].replace(idOf, slice.id);
  }

  // Another series, or the same one with news about it; `index` says where to look.
  take(series, index) {
    const same = this.series?.id === series.id;
    this.series = series;
    this.index = clamp(index, 0, series.slices.length - 1);
    if (!same) this.window = null;
    this.strip.show(series.slices);
    this.showEdges();
    this.render();
    this.onSlice(this);
  }

  go(index) {
    const wanted = clamp(index, 0, this.slices.length - 1);
    if (wanted === this.index) return;
    this.way = Math.sign(wanted - this.index);
    this.index = wanted;
    // Once a frame is enough, however fast the wheel turns.
    this.due ||= requestAnimationFrame(() => {
      this.due = 0;
      this.render();
    });
    this.onSlice(this);
  }

  describe(index) {
    const slice = this.slices[index];
    const place = fill(this.words.position, { number: index + 1, total: this.slices.length });
    const found = [place];
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

  // ---- What is seen --------------------------------------------------------------------------

  render() {
    const { slice, stage } = this;
    const { title } = stage.dataset;
    stage.setAttribute("aria-label", `${title ? `${title}: ` : ""}${this.describe(this.index)}`);
    this.picture.alt = fill(this.words.slice, { number: slice.position + 1 });
    this.corners.slice.textContent = this.slices.length > 1 ? `${this.index + 1} / ${this.slices.length}` : "";
    this.corners.answer.textContent =
      slice.label && this.slices.length > 1 ? `${slice.label} · ${this.chance(slice)}` : "";
    this.notes.error.hidden = true;
    this.notes.wait.hidden = slice.ready || Boolean(slice.problem);
    this.notes.problem.hidden = slice.ready || !slice.problem;
    this.notes.problem.textContent = slice.problem || "";
    this.turn += 1;
    if (slice.ready) this.draw();
    else this.picture.hidden = this.canvas.hidden = true;
    this.layHeat();
    this.tellWindow();
    this.strip.mark(this.index);
    this.place();
    this.measures.show(slice);
    this.fetchNeighbours();
  }

  // Letters for the eye, a sentence for the ear. They are the stage's: zooming leaves them there.
  showEdges() {
    const { edges } = this.series;
    for (const letters of this.edges) letters.textContent = edges ? edges[letters.dataset.edge] : "";
    this.unknown.hidden = Boolean(edges);
    const spoken = edges ? this.sayEdges(edges) : this.words.unknown;
    // Only news is worth telling: the sentence is announced when it changes.
    if (this.orientation.textContent !== spoken) this.orientation.textContent = spoken;
  }

  sayEdges(edges) {
    const inWords = (letters) => [...letters].map((letter) => this.words[letter]).join(", ");
    const sides = Object.entries(edges).map(([side, letters]) => [side, inWords(letters)]);
    return fill(this.words.oriented, Object.fromEntries(sides));
  }

  draw() {
    if (this.window) {
      this.drawWindowed();
      return;
    }
    this.canvas.hidden = true;
    this.picture.hidden = false;
    const url = this.address("pixels");
    if (this.picture.getAttribute("src") === url) return;
    this.picture.src = url;
    this.expect();
  }

  async drawWindowed() {
    const { turn, slice, window } = this;
    this.expect();
    try {
      const greys = await loadGreys(this.address("values"));
      if (turn !== this.turn) return;
      paint(this.canvas, greys, slice, window);
      this.canvas.hidden = false;
      this.picture.hidden = true;
      this.arrived();
    } catch {
      if (turn === this.turn) this.failed();
    }
  }

  expect() {
    clearTimeout(this.late);
    this.late = setTimeout(() => this.stage.classList.add("stale"), STALE_AFTER);
  }

  arrived() {
    clearTimeout(this.late);
    this.stage.classList.remove("stale");
  }

  failed() {
    this.arrived();
    this.notes.error.hidden = false;
    this.picture.hidden = this.canvas.hidden = true;
  }

  setHeat(warm) {
    this.warm = warm;
    this.heat.style.opacity = String(warm.opacity);
    if (this.series) this.layHeat();
  }

  layHeat() {
    const shown = this.slice.heat && this.warm.on && this.slice.ready;
    this.heat.hidden = !shown;
    if (!shown) return;
    const url = this.address("heatmap");
    if (this.heat.getAttribute("src") === url) return;
    // The heat of one slice never lies on another.
    this.heat.classList.add("waiting");
    this.heat.src = url;
  }

  fetchNeighbours() {
    const way = this.way || 1;
    const near = [-way];
    for (let step = 1; step <= AHEAD; step += 1) near.push(way * step);
    for (const step of near) {
      const slice = this.slices[this.index + step];
      if (!slice?.ready) continue;
      if (this.window) loadGreys(this.address("values", slice)).catch(() => {});
      else this.fetchAhead(this.address("pixels", slice));
      if (slice.heat && this.warm.on) this.fetchAhead(this.address("heatmap", slice));
    }
  }

  fetchAhead(url) {
    if (this.fetched.has(url)) return;
    this.fetched.add(url);
    new Image().src = url;
  }

  // ---- Grey values ---------------------------------------------------------------------------

  greys() {
    return loadGreys(this.address("values"));
  }

  // The window that this slice is seen with.
  async currentWindow() {
    if (this.window) return this.window;
    const { slice } = this;
    return fileWindow(slice) || automatic(await this.greys(), slice);
  }

  async range() {
    const { slice } = this;
    return fullRange(await this.greys(), slice);
  }

  setWindow(window) {
    this.window = window;
    this.turn += 1;
    if (this.slice.ready) this.draw();
    this.tellWindow();
    this.onWindow(this);
  }

  tellWindow() {
    const { window } = this;
    const shown = window || fileWindow(this.slice);
    this.corners.window.textContent = shown
      ? `${this.words.level} ${this.number.format(shown.centre)}  ${this.words.width} ${this.number.format(shown.width)}`
      : "";
  }

  // ---- Where it is seen ----------------------------------------------------------------------

  place() {
    const { view, stage, slice } = this;
    const { clientWidth: width, clientHeight: height } = stage;
    this.box = fittedBox(slice, width, height);
    this.frame.style.width = `${this.box.width}px`;
    this.frame.style.height = `${this.box.height}px`;
    // The slice never leaves the stage: half of what overhangs is how far it may move.
    const free = (size, room) => Math.max(0, (size * view.zoom - room) / 2);
    view.x = clamp(view.x, -free(this.box.width, width), free(this.box.width, width));
    view.y = clamp(view.y, -free(this.box.height, height), free(this.box.height, height));
    this.layers.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
    stage.classList.toggle("zoomed", view.zoom > 1);
    const enlarged = this.magnification >= 6;
    for (const layer of [this.picture, this.canvas]) layer.classList.toggle("pixelated", enlarged);
    this.allowTouch();
    this.scaleBar.show(screenScale(slice, this.box, view.zoom), width);
    this.measures.draw();
    this.region?.draw();
    this.onZoom(this);
  }

  // At rest one finger moves the page up and down, and the stack from side to side.
  allowTouch() {
    const { stage, view } = this;
    stage.style.touchAction = this.tool() === "move" && view.zoom <= 1 ? "pan-y" : "none";
    stage.dataset.tool = this.tool();
  }

  toStage({ x, y }) {
    const { view, slice, box, stage } = this;
    return {
      x: stage.clientWidth / 2 + (x / slice.width - 0.5) * box.width * view.zoom + view.x,
      y: stage.clientHeight / 2 + (y / slice.height - 0.5) * box.height * view.zoom + view.y,
    };
  }

  fromStage(event) {
    const { view, slice, box, stage } = this;
    const edge = stage.getBoundingClientRect();
    const x = event.clientX - edge.left - stage.clientWidth / 2 - view.x;
    const y = event.clientY - edge.top - stage.clientHeight / 2 - view.y;
    return {
      x: (x / (box.width * view.zoom) + 0.5) * slice.width,
      y: (y / (box.height * view.zoom) + 0.5) * slice.height,
    };
  }

  zoomTo(zoom, clientX, clientY) {
    const edge = this.stage.getBoundingClientRect();
    const atX = clientX === undefined ? 0 : clientX - edge.left - edge.width / 2;
    const atY = clientY === undefined ? 0 : clientY - edge.top - edge.height / 2;
    const next = clamp(zoom, 1, MAX_ZOOM);
    const ratio = next / this.view.zoom;
    this.view.x = atX - (atX - this.view.x) * ratio;
    this.view.y = atY - (atY - this.view.y) * ratio;
    this.view.zoom = next;
    this.place();
  }

  panBy(x, y) {
    this.view.x += x;
    this.view.y += y;
    this.place();
  }

  // How large a pixel of the slice is on the screen; 1 is a pixel for a pixel.
  get magnification() {
    return (this.box.width * this.view.zoom) / this.slice.width;
  }

  fit() {
    Object.assign(this.view, { zoom: 1, x: 0, y: 0 });
    this.place();
  }

  invert(on) {
    this.frame.classList.toggle("inverted", on);
  }

  // ---- Wheel, keys, pointers -----------------------------------------------------------------

  listen() {
    const { stage, picture, heat } = this;
    picture.addEventListener("load", () => this.arrived());
    picture.addEventListener("error", () => this.failed());
    heat.addEventListener("load", () => heat.classList.remove("waiting"));
    heat.addEventListener("error", () => {
      heat.hidden = true;
    });
    stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("dblclick", (event) => {
      if (this.tool() !== "move") return;
      if (this.view.zoom > 1) this.fit();
      else this.zoomTo(3, event.clientX, event.clientY);
    });
    this.followPointers();
    new ResizeObserver(() => this.series && this.place()).observe(stage);
  }

  onWheel(event) {
    if (!this.series) return;
    event.preventDefault();
    const pixels = event.deltaMode ? event.deltaY * LINE : event.deltaY;
    if (event.ctrlKey || event.metaKey || this.slices.length === 1) {
      this.zoomTo(this.view.zoom * Math.exp(-pixels * 0.002), event.clientX, event.clientY);
    } else if (Math.abs(pixels) >= NOTCH * 0.8) {
      this.wheeled = 0;
      this.go(this.index + Math.sign(pixels) * Math.max(1, Math.round(Math.abs(pixels) / NOTCH / 2)));
    } else {
      this.wheeled = (this.wheeled || 0) + pixels;
      const steps = Math.trunc(this.wheeled / TRACKPAD_STEP);
      this.wheeled -= steps * TRACKPAD_STEP;
      this.go(this.index + steps);
    }
  }

  // Returns whether the key was meant for the stack.
  onKey(event) {
    if (this.tool() === "measure" && this.measures.onKey(event)) return true;
    if (this.region && REGION_TOOLS.includes(this.tool()) && this.region.onKey(event)) return true;
    const pans = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, PageUp: -1, PageDown: 1 };
    if (pans[event.key] && this.view.zoom > 1) this.panBy(...pans[event.key].map((way) => way * PAN_STEP));
    else if (steps[event.key]) this.go(this.index + steps[event.key] * (event.shiftKey ? 10 : 1));
    else if (event.key === "Home") this.go(0);
    else if (event.key === "End") this.go(this.slices.length - 1);
    else return false;
    return true;
  }

  followPointers() {
    const { stage } = this;
    const pointers = new Map();
    let drag = null;
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return { distance: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    };
    stage.addEventListener("pointerdown", (event) => {
      if (!this.series || (event.pointerType === "mouse" && event.button === 1)) return;
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      stage.setPointerCapture(event.pointerId);
      drag?.stop();
      drag = pointers.size === 1 ? this.drag(event) : null;
    });
    stage.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last) return;
      const before = pointers.size === 2 ? spread() : null;
      pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (before) {
        const after = spread();
        this.view.x += after.x - before.x;
        this.view.y += after.y - before.y;
        this.zoomTo((this.view.zoom * after.distance) / Math.max(1, before.distance), after.x, after.y);
      } else {
        drag?.move(event, event.clientX - last.x, event.clientY - last.y);
      }
    });
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, (event) => {
        if (!pointers.delete(event.pointerId)) return;
        drag?.stop();
        drag = null;
      });
    }
  }

  // What one finger or one button does: {move, stop}.
  drag(event) {
    if (event.button === 2 || this.tool() === "window") return this.dragWindow();
    if (this.tool() === "measure") return this.dragMeasure(event);
    if (this.region && REGION_TOOLS.includes(this.tool())) return this.region.drag(event);
    if (this.view.zoom > 1) return { move: (_event, x, y) => this.panBy(x, y), stop() {} };
    return this.dragStack(event.pointerType);
  }

  dragWindow() {
    let start = null;
    let range = null;
    let moved = { x: 0, y: 0 };
    Promise.all([this.currentWindow(), this.range()]).then((found) => {
      [start, range] = found;
    }, () => {});
    return {
      move: (_event, x, y) => {
        moved = { x: moved.x + x, y: moved.y + y };
        if (!start) return;
        const unit = range.width / Math.min(this.stage.clientWidth, this.stage.clientHeight);
        const width = Math.max(range.width / 500, start.width + moved.x * unit);
        this.setWindow({ centre: start.centre - moved.y * unit, width });
      },
      stop() {},
    };
  }

  dragMeasure(event) {
    this.measures.begin(this.fromStage(event));
    return {
      move: (later) => this.measures.drawTo(this.fromStage(later)),
      stop: () => this.measures.end(),
    };
  }

  dragStack(pointerType) {
    const start = this.index;
    const touch = pointerType !== "mouse";
    const room = touch ? this.stage.clientWidth : this.stage.clientHeight;
    const perSlice = clamp(room / this.slices.length, 3, 24);
    let moved = 0;
    return {
      move: (_event, x, y) => {
        moved += touch ? x : y;
        this.go(start + Math.round(moved / perSlice));
      },
      stop() {},
    };
  }
}

export function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_all, name) => values[name]);
}

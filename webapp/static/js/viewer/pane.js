// One stack of slices on the page: what is seen of it, and where.
import { Captions } from "./captions.js";
import { clamp, fittedBox, screenScale } from "./geometry.js";
import { Gestures } from "./gestures.js";
import { automatic, fileWindow, fullRange, loadGreys, paint } from "./greys.js";
import { Measures } from "./measure.js";
import { ScaleBar } from "./scale.js";
import { Strip } from "./strip.js";

const MAX_ZOOM = 16;
const AHEAD = 4; // neighbours fetched before they are asked for, in the direction of travel
const STALE_AFTER = 150; // milliseconds after which a slice that is not there yet is dimmed

const idOf = /0{8}-0{4}-0{4}-0{4}-0{12}/;

export class Pane {
  // onSlice(pane) and onWindow(pane) are told of changes; tool() is what a drag does now.
  constructor(element, { urls, words, language, tool, onSlice, onWindow, onZoom }) {
    Object.assign(this, { element, urls, tool, onSlice, onWindow, onZoom });
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
    this.captions = new Captions(words, language);
    this.measures = new Measures(part("marks"), { toStage: (point) => this.toStage(point), words, language });
    this.strip = new Strip(part("strip"), { onGo: (index) => this.go(index), tell: (index) => this.describe(index) });
    this.gestures = new Gestures(this);
    this.listen();
  }

  listen() {
    const { stage, picture, heat } = this;
    picture.addEventListener("load", () => this.arrived());
    picture.addEventListener("error", () => this.failed());
    heat.addEventListener("load", () => heat.classList.remove("waiting"));
    heat.addEventListener("error", () => {
      heat.hidden = true;
    });
    new ResizeObserver(() => this.series && this.place()).observe(stage);
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

  // Returns whether the key was meant for the stack.
  onKey(event) {
    return this.gestures.onKey(event);
  }

  describe(index) {
    return this.captions.describe(this.slices, index);
  }

  chance(slice) {
    return this.captions.chance(slice);
  }

  // ---- What is seen --------------------------------------------------------------------------

  render() {
    const { slice, stage } = this;
    const { title } = stage.dataset;
    stage.setAttribute("aria-label", `${title ? `${title}: ` : ""}${this.describe(this.index)}`);
    this.picture.alt = this.captions.image(slice);
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
    const spoken = this.captions.orientation(edges);
    // Only news is worth telling: the sentence is announced when it changes.
    if (this.orientation.textContent !== spoken) this.orientation.textContent = spoken;
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
    this.corners.window.textContent = this.captions.window(this.window || fileWindow(this.slice));
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
}

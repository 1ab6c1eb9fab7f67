// What wheel, keys and pointers do to a pane.
import { clamp } from "./geometry.js";
import { REGION_TOOLS } from "./region.js";

const PAN_STEP = 40; // pixels of the screen for one press of an arrow key
const LINE = 33; // pixels that a wheel which counts in lines means by one
const NOTCH = 100; // pixels of one notch of a wheel
const TRACKPAD_STEP = 30; // pixels of two fingers for one slice

export class Gestures {
  constructor(pane) {
    this.pane = pane;
    this.wheeled = 0; // pixels of two fingers that have not made a step yet
    this.listen();
  }

  listen() {
    const { stage } = this.pane;
    stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("dblclick", (event) => this.onDoubleClick(event));
    this.followPointers();
  }

  onDoubleClick(event) {
    const { pane } = this;
    if (pane.tool() !== "move") return;
    if (pane.view.zoom > 1) pane.fit();
    else pane.zoomTo(3, event.clientX, event.clientY);
  }

  onWheel(event) {
    const { pane } = this;
    if (!pane.series) return;
    event.preventDefault();
    const pixels = event.deltaMode ? event.deltaY * LINE : event.deltaY;
    if (event.ctrlKey || event.metaKey || pane.slices.length === 1) {
      pane.zoomTo(pane.view.zoom * Math.exp(-pixels * 0.002), event.clientX, event.clientY);
    } else if (Math.abs(pixels) >= NOTCH * 0.8) {
      this.wheeled = 0;
      pane.go(pane.index + Math.sign(pixels) * Math.max(1, Math.round(Math.abs(pixels) / NOTCH / 2)));
    } else {
      this.wheeled += pixels;
      const steps = Math.trunc(this.wheeled / TRACKPAD_STEP);
      this.wheeled -= steps * TRACKPAD_STEP;
      pane.go(pane.index + steps);
    }
  }

  // Returns whether the key was meant for the stack.
  onKey(event) {
    const { pane } = this;
    if (pane.tool() === "measure" && pane.measures.onKey(event)) return true;
    if (pane.region && REGION_TOOLS.includes(pane.tool()) && pane.region.onKey(event)) return true;
    const pans = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, PageUp: -1, PageDown: 1 };
    if (pans[event.key] && pane.view.zoom > 1) pane.panBy(...pans[event.key].map((way) => way * PAN_STEP));
    else if (steps[event.key]) pane.go(pane.index + steps[event.key] * (event.shiftKey ? 10 : 1));
    else if (event.key === "Home") pane.go(0);
    else if (event.key === "End") pane.go(pane.slices.length - 1);
    else return false;
    return true;
  }

  followPointers() {
    const { pane } = this;
    const { stage } = pane;
    const pointers = new Map();
    let drag = null;
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return { distance: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    };
    stage.addEventListener("pointerdown", (event) => {
      if (!pane.series || (event.pointerType === "mouse" && event.button === 1)) return;
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
        pane.view.x += after.x - before.x;
        pane.view.y += after.y - before.y;
        pane.zoomTo((pane.view.zoom * after.distance) / Math.max(1, before.distance), after.x, after.y);
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
    const { pane } = this;
    if (event.button === 2 || pane.tool() === "window") return this.dragWindow();
    if (pane.tool() === "measure") return this.dragMeasure(event);
    if (pane.region && REGION_TOOLS.includes(pane.tool())) return pane.region.drag(event);
    if (pane.view.zoom > 1) return { move: (_event, x, y) => pane.panBy(x, y), stop() {} };
    return this.dragStack(event.pointerType);
  }

  dragWindow() {
    const { pane } = this;
    let start = null;
    let range = null;
    let moved = { x: 0, y: 0 };
    Promise.all([pane.currentWindow(), pane.range()]).then((found) => {
      [start, range] = found;
    }, () => {});
    return {
      move: (_event, x, y) => {
        moved = { x: moved.x + x, y: moved.y + y };
        if (!start) return;
        const unit = range.width / Math.min(pane.stage.clientWidth, pane.stage.clientHeight);
        const width = Math.max(range.width / 500, start.width + moved.x * unit);
        pane.setWindow({ centre: start.centre - moved.y * unit, width });
      },
      stop() {},
    };
  }

  dragMeasure(event) {
    const { pane } = this;
    pane.measures.begin(pane.fromStage(event));
    return {
      move: (later) => pane.measures.drawTo(pane.fromStage(later)),
      stop: () => pane.measures.end(),
    };
  }

  dragStack(pointerType) {
    const { pane } = this;
    const start = pane.index;
    const touch = pointerType !== "mouse";
    const room = touch ? pane.stage.clientWidth : pane.stage.clientHeight;
    const perSlice = clamp(room / pane.slices.length, 3, 24);
    let moved = 0;
    return {
      move: (_event, x, y) => {
        moved += touch ? x : y;
        pane.go(start + Math.round(moved / perSlice));
      },
      stop() {},
    };
  }
}

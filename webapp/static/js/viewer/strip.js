// The strip under a stack: a bar for each slice, as high as a tumour is likely. It is the slider.
import { clamp } from "./geometry.js";
import { shape } from "./svg.js";

const LIKELY = 0.5;
const PAGE = 10; // slices for Page up and Page down

export class Strip {
  // `onGo(index)` is called when the reader goes to a slice; `tell(index)` says what is there.
  constructor(element, { onGo, tell }) {
    Object.assign(this, { element, onGo, tell });
    this.bars = element.querySelector("[data-bars]");
    this.now = element.querySelector("[data-now]");
    this.count = 0;
    this.index = 0;
    this.listen();
  }

  show(slices) {
    this.count = slices.length;
    this.element.hidden = this.count < 2;
    this.element.setAttribute("aria-valuemax", String(this.count));
    this.bars.replaceChildren(...slices.flatMap((slice, index) => this.column(slice, index)));
    this.mark(clamp(this.index, 0, this.count - 1));
  }

  mark(index) {
    this.index = index;
    this.element.setAttribute("aria-valuenow", String(index + 1));
    this.element.setAttribute("aria-valuetext", this.tell(index));
    this.now.style.left = `${(index / this.count) * 100}%`;
    this.now.style.width = `${100 / this.count}%`;
  }

  // Percentages, so that nothing has to be drawn again when the window changes.
  column(slice, index) {
    const width = 100 / this.count;
    const left = index * width;
    const middle = `${left + width / 2}%`;
    const gap = this.count > 120 ? 0 : width * 0.15;
    const height = Math.max(3, (slice.tumor || 0) * 72);
    const drawn = [
      shape("rect", {
        x: `${left + gap / 2}%`,
        y: `${92 - height}%`,
        width: `${width - gap}%`,
        height: `${height}%`,
        class: kindOf(slice),
      }),
    ];
    if (slice.is_key) drawn.push(sign(middle, "2%", "M-5 0h10l-5 8z", "mark-key"));
    if (slice.problem) drawn.push(sign(middle, "86%", "m-3-3 6 6m0-6-6 6", "mark-problem"));
    if (slice.strange) drawn.push(shape("circle", { cx: middle, cy: "97%", r: 2, class: "mark-strange" }));
    return drawn;
  }

  at(event) {
    const box = this.bars.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    return clamp(Math.floor(share * this.count), 0, this.count - 1);
  }

  listen() {
    const { element } = this;
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      this.onGo(this.at(event));
    });
    element.addEventListener("pointermove", (event) => {
      if (element.hasPointerCapture(event.pointerId)) this.onGo(this.at(event));
    });
    element.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: PAGE, PageUp: -PAGE };
      const ends = { Home: 0, End: this.count - 1 };
      const wanted = event.key in ends ? ends[event.key] : this.index + (steps[event.key] || NaN);
      if (Number.isNaN(wanted) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.onGo(clamp(wanted, 0, this.count - 1));
    });
  }
}

function kindOf({ tumor }) {
  if (tumor === null) return "bar-none";
  return tumor >= LIKELY ? "bar-high" : "bar-low";
}

// A shape of its own size at a place in percent.
function sign(x, y, path, kind) {
  const place = shape("svg", { x, y, overflow: "visible" });
  place.append(shape("path", { d: path, class: kind }));
  return place;
}

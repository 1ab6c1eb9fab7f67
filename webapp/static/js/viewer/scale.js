// A bar in the corner of the stage: how long so many millimetres are.
import { barLength } from "./geometry.js";
import { shape } from "./svg.js";

const ROOM = 0.22; // part of the stage's width that the bar may take
const AT_MOST = 160; // pixels of the screen
const HEIGHT = 26;
const LINE = 21; // where the bar lies, from the top
const TICK = 6;
const MARGIN = 2;

export class ScaleBar {
  constructor(element, language) {
    this.element = element;
    const style = { style: "unit", unit: "millimeter" };
    this.millimetres = new Intl.NumberFormat(language, style);
  }

  // `scale` is in pixels of the screen for one millimetre; without it there is no bar.
  show(scale, stageWidth) {
    const length = scale ? barLength(scale, Math.min(AT_MOST, stageWidth * ROOM)) : null;
    this.element.toggleAttribute("hidden", !length);
    if (!length) return;
    const width = length * scale;
    const whole = { width: width + 2 * MARGIN, height: HEIGHT };
    for (const [name, size] of Object.entries(whole)) this.element.setAttribute(name, size);
    const text = shape("text", { x: whole.width - MARGIN, y: LINE - TICK - 3, "text-anchor": "end" });
    text.textContent = this.millimetres.format(length);
    const path = `M${MARGIN} ${LINE - TICK}v${TICK}h${width}v-${TICK}`;
    this.element.replaceChildren(
      shape("path", { d: path, class: "under" }),
      shape("path", { d: path, "data-bar": length }),
      text,
    );
  }
}

// The panes of the viewer: how they are made, which is active, what follows when one changes slice.
import { matchingIndex } from "./geometry.js";
import { offerHeat } from "./heatmap.js";
import { showJump, showLinks } from "./links.js";
import { control, language, viewer, words } from "./page.js";
import { Pane } from "./pane.js";
import { follow } from "./result.js";
import { state } from "./state.js";
import { onKey } from "./tools.js";
import { onWindow } from "./windowing.js";
import { onZoom } from "./zoom.js";

const REST = 300; // milliseconds after the last change of slice until the result follows

let linking = false; // one pane follows the other just now
let resting = 0; // the timer of the rest

export function newPane(element) {
  const urls = { pixels: viewer.dataset.pixelsUrl, values: viewer.dataset.valuesUrl, heatmap: viewer.dataset.heatmapUrl };
  const pane = new Pane(element, { urls, words, language, tool: () => state.tool, onSlice, onWindow, onZoom });
  for (const name of ["pointerdown", "focusin", "wheel"]) {
    element.addEventListener(name, () => setActive(pane), { passive: true });
  }
  for (const name of ["pointerdown", "wheel", "keydown"]) {
    element.addEventListener(name, () => (state.touched = true), { passive: true });
  }
  pane.stage.addEventListener("keydown", (event) => onKey(event, pane));
  return pane;
}

export function setActive(pane) {
  state.active = pane;
  if (pane.series) onZoom(pane);
}

// The pane has changed its slice: everything else that shows one follows.
function onSlice(pane) {
  const { main, second } = state;
  if (pane !== main) {
    if (!linking && control("linked")?.checked) link(second, main);
    return;
  }
  if (!linking && second?.series && control("linked").checked) link(main, second);
  showLinks();
  offerHeat();
  showJump();
  state.assessment?.onSlice(main.slice);
  clearTimeout(resting);
  resting = setTimeout(follow, REST);
}

export function link(from, to) {
  linking = true;
  to.go(matchingIndex(from.series, from.index, to.series));
  linking = false;
}

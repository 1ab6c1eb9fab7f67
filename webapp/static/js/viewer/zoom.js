// How large slices and volume are shown, by buttons and keys, and the figure that tells it.
import { language, viewer } from "./page.js";
import { state, volumeIsOpen } from "./state.js";

const percent = new Intl.NumberFormat(language, { style: "percent" });
const decimal = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });

export function onZoom(pane) {
  if (pane === state.active && !volumeIsOpen()) showZoom(percent.format(pane.magnification));
}

// NiiVue's planes have no one size of a pixel: there it is times the whole.
export function showVolumeZoom() {
  showZoom(`×\u00a0${decimal.format(state.volume?.zoomed || 1)}`);
}

function showZoom(text) {
  viewer.querySelector("[data-zoom]").textContent = text;
}

export function zoomBy(factor) {
  const { active, volume } = state;
  if (volumeIsOpen()) volume.zoom(factor);
  else active.zoomTo(active.view.zoom * factor);
}

export function fitZoom() {
  if (volumeIsOpen()) state.volume.fit();
  else state.active.fit();
}

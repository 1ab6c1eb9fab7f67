// The controls of grey values: level, width and presets. Their values belong to one series.
import { fileWindow, presets } from "./greys.js";
import { control, viewer } from "./page.js";
import { panes, state, volumeIsOpen } from "./state.js";

let preparedFor = null; // the series that the controls are made for
let byPreset = false; // a preset sets the window just now, not the reader

// Level and width of a series, as far as its first slices tell; they are wanted with every bit.
export async function prepareGreys() {
  const { main } = state;
  const offered = Boolean(fileWindow(main.slice));
  viewer.querySelector("[data-file-window]").hidden = !offered;
  control("preset").value = offered ? "file" : "automatic";
  if (!main.slice.ready) return;
  preparedFor = main.series.id;
  try {
    const [range, now] = await Promise.all([main.range(), main.currentWindow()]);
    const step = range.width > 200 ? 1 : range.width / 200;
    Object.assign(control("level"), { min: range.centre - range.width / 2, max: range.centre + range.width / 2, step });
    Object.assign(control("width"), { min: step, max: range.width * 1.5, step });
    showWindow(now);
  } catch {
    // Without the values the slices are seen as the server shows them.
  }
}

// News about a series whose slices were not ready before.
export function prepareGreysOnce() {
  if (preparedFor !== state.main.series.id) prepareGreys();
}

function showWindow(window) {
  control("level").value = window.centre;
  control("width").value = window.width;
}

// The reader has set a window of their own.
export function showOwnWindow(window) {
  showWindow(window);
  control("preset").value = "own";
}

export function onWindow(pane) {
  if (pane !== state.main || !pane.window) return;
  if (byPreset) showWindow(pane.window);
  else showOwnWindow(pane.window);
}

export async function choosePreset(name) {
  const option = control("preset").querySelector(`[value="${name}"]`);
  if (option.hidden) return;
  control("preset").value = name;
  for (const pane of panes()) {
    const now = volumeIsOpen() ? state.volume.window : await pane.currentWindow();
    const isDefault = name === (fileWindow(pane.slice) ? "file" : "automatic");
    const chosen = presets[name](await pane.greys(), pane.slice, now);
    byPreset = true;
    pane.setWindow(isDefault ? null : chosen);
    byPreset = false;
    if (pane !== state.main) continue;
    showWindow(chosen);
    if (volumeIsOpen()) state.volume.setWindow(isDefault ? null : chosen);
  }
}

export function slideWindow() {
  const window = { centre: Number(control("level").value), width: Number(control("width").value) };
  state.main.setWindow(window);
  if (volumeIsOpen()) state.volume.setWindow(window);
}

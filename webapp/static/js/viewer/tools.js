// What buttons and keys of the viewer do.
import { warm } from "./heatmap.js";
import { button, control } from "./page.js";
import { closeVolume, openVolume } from "./planes.js";
import { panes, state, volumeIsOpen } from "./state.js";
import { choosePreset, prepareGreys } from "./windowing.js";
import { fitZoom, zoomBy } from "./zoom.js";

const ZOOM_STEP = 1.25;
const PRESET_KEYS = ["file", "automatic", "brain", "full", "narrow", "wide"];

export function setTool(name) {
  state.tool = name;
  for (const each of ["move", "window", "measure"]) button(each).setAttribute("aria-pressed", String(each === name));
  for (const pane of panes()) {
    pane.allowTouch();
    if (name !== "measure") pane.measures.leaveKeys();
  }
  state.volume?.setTool(name);
  state.assessment?.onTool();
}

function setInverted(on) {
  state.inverted = on;
  button("invert").setAttribute("aria-pressed", String(on));
  for (const pane of panes()) pane.invert(on);
  state.volume?.invert(on);
}

function switchHeat() {
  control("heat").checked = !control("heat").checked;
  warm();
}

function reset() {
  setInverted(false);
  for (const pane of panes()) {
    pane.fit();
    pane.setWindow(null);
    pane.measures.clear();
  }
  if (volumeIsOpen()) state.volume.reset();
  prepareGreys();
}

const actions = {
  move: () => setTool("move"),
  window: () => setTool("window"),
  measure: () => setTool(state.tool === "measure" ? "move" : "measure"),
  in: () => zoomBy(ZOOM_STEP),
  out: () => zoomBy(1 / ZOOM_STEP),
  fit: fitZoom,
  invert: () => setInverted(!state.inverted),
  heat: switchHeat,
  reset,
  full: () => state.screen.toggle(),
  box: () => state.assessment.startRegion("box"),
  outline: () => state.assessment.startRegion("outline"),
  volume: () => (volumeIsOpen() ? closeVolume() : openVolume({ onOtherKey })),
};
const keys = {
  "+": "in", "=": "in", "-": "out", "−": "out", 0: "fit", i: "invert", h: "heat", r: "reset",
  f: "full", v: "move", w: "window", m: "measure", b: "box", o: "outline",
}; // prettier-ignore

export function listenToButtons() {
  for (const name of Object.keys(actions)) button(name)?.addEventListener("click", actions[name]);
}

// In the stack: its own keys come first.
export function onKey(event, pane) {
  if (event.ctrlKey || event.metaKey || event.altKey || !pane.series) return;
  if (pane.onKey(event)) {
    state.touched = true;
    event.preventDefault();
  } else {
    onOtherKey(event);
  }
}

function onOtherKey(event) {
  const action = keys[event.key.toLowerCase()];
  const preset = PRESET_KEYS[digitOf(event) - 1];
  if (action) actions[action]();
  else if (preset) choosePreset(preset);
  else return;
  event.preventDefault();
}

// With Shift as well, where digits alone have another meaning: the key, since Shift makes it a sign.
function digitOf({ key, code, shiftKey }) {
  return Number(shiftKey ? /^Digit(\d)$/.exec(code)?.[1] : key);
}

// Wherever the keys are in the viewer, not only in the image: who pressed the button leaves by key.
export function onKeyAnywhere(event) {
  const typing = event.target.matches("select, input:not([type='range'], [type='checkbox'])");
  if (event.defaultPrevented || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.toLowerCase() !== "f") return;
  event.preventDefault();
  state.screen.toggle();
}

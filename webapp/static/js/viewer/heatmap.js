// The heatmap over slices and volume: its switch and its opacity, which outlive the page.
import { control, viewer } from "./page.js";
import { panes, state } from "./state.js";

const KEPT = "sulcus.viewer";

export function warm() {
  const on = control("heat").checked;
  const choice = { on, opacity: Number(control("opacity").value) / 100 };
  for (const pane of panes()) pane.setHeat(choice);
  state.volume?.setHeat(choice);
  offerHeat();
  try {
    localStorage.setItem(KEPT, JSON.stringify({ on, opacity: control("opacity").value }));
  } catch {
    // Storage is switched off: the choice lasts as long as the page.
  }
  return choice;
}

export function offerHeat() {
  const there = Boolean(state.main.series?.slices.some((slice) => slice.heat));
  viewer.querySelector("[data-heat-controls]").disabled = !there;
  control("opacity").disabled = !there || !control("heat").checked;
}

export function recallHeat() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) || "{}");
    if (typeof kept.on === "boolean") control("heat").checked = kept.on;
    if (kept.opacity) control("opacity").value = kept.opacity;
  } catch {
    // Nothing kept, or nothing readable: the defaults stand.
  }
}

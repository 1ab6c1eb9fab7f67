// The volume in place of the stack: opened, with what the stack shows, and closed.
import { fileWindow } from "./greys.js";
import { warm } from "./heatmap.js";
import { addressOf, button, control, viewer } from "./page.js";
import { state, volumeIsOpen } from "./state.js";
import { VolumeView, volumesCanBeShown } from "./volume.js";
import { showOwnWindow } from "./windowing.js";
import { onZoom, showVolumeZoom } from "./zoom.js";

// `onOtherKey(event)` is told of keys that are not the volume's own.
export async function openVolume({ onOtherKey }) {
  const note = viewer.querySelector("[data-no-volume]");
  note.hidden = true;
  if (!volumesCanBeShown()) {
    viewer.querySelector("[data-no-webgl]").hidden = false;
    return;
  }
  setVolumeOpen(true);
  try {
    state.volume ||= startVolume(onOtherKey);
    const { main, volume } = state;
    const { id } = main.series;
    const heatUrl = main.slices.some((slice) => slice.heat) ? addressOf("heatVolumeUrl", id) : null;
    await volume.open(main.series, { volumeUrl: addressOf("volumeUrl", id), heatUrl, heat: warm() });
    volume.setTool(state.tool);
    volume.setPlanes(control("planes").value);
    volume.invert(state.inverted);
    volume.setWindow(main.window || fileWindow(main.slice));
    volume.goTo(main.index);
    viewer.querySelector("[data-volume-wait]").hidden = true;
    viewer.querySelector("[data-volume]").dataset.ready = "";
  } catch {
    closeVolume();
    note.hidden = false;
  }
}

function startVolume(onOtherKey) {
  const started = new VolumeView(viewer.querySelector("[data-volume-canvas]"), {
    onMove: (index) => {
      if (volumeIsOpen()) state.main.go(index);
    },
  });
  started.onZoom = showVolumeZoom;
  started.onWindow = showOwnWindow;
  started.onOtherKey = onOtherKey;
  return started;
}

export function closeVolume() {
  setVolumeOpen(false);
  state.main.place();
}

function setVolumeOpen(open) {
  button("volume").setAttribute("aria-pressed", String(open));
  const room = viewer.querySelector("[data-volume]");
  delete room.dataset.ready;
  // Not out of the layout: a canvas without a size is an error to WebGL.
  room.classList.toggle("open", open);
  state.main.stage.classList.toggle("covered", open);
  viewer.querySelector("[data-volume-wait]").hidden = !open;
  viewer.querySelector("[data-volume-controls]").hidden = !open;
  if (open) showVolumeZoom();
  else onZoom(state.active);
}

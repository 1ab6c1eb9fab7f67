// Which series and which slice of this study are on the stage.
import { closeVolume } from "./planes.js";
import { button, setCurrent, viewer } from "./page.js";
import { state, volumeIsOpen } from "./state.js";
import { prepareGreys } from "./windowing.js";

function seriesAt(position) {
  const { series } = state.stack;
  return series.find((one) => one.slices.some((slice) => slice.position === position)) || series[0];
}

// Positions count through all series of the study.
export function goTo(position) {
  const { main } = state;
  const series = seriesAt(position);
  const index = Math.max(0, series.slices.findIndex((slice) => slice.position === position));
  if (series.id === main.series.id) main.go(index);
  else takeSeries(series, index);
  if (volumeIsOpen()) state.volume.goTo(index);
}

function takeSeries(series, index) {
  if (volumeIsOpen()) closeVolume();
  state.main.take(series, index);
  showSeries();
  prepareGreys();
}

// The slice at `position` as the server tells of it now.
export function takeStack(position) {
  const series = seriesAt(position);
  state.main.take(series, series.slices.findIndex((slice) => slice.position === position));
  showSeries();
}

function showSeries() {
  const { main } = state;
  for (const link of viewer.querySelectorAll("[data-series]")) {
    setCurrent(link, link.dataset.series === main.series.id);
  }
  for (const note of viewer.querySelectorAll("[data-note-of]")) {
    note.hidden = note.dataset.noteOf !== main.series.id;
  }
  if (button("volume")) {
    button("volume").hidden = !main.series.is_volume;
    button("volume").disabled = main.slices.some((slice) => !slice.ready && !slice.problem);
  }
  viewer.querySelector("[data-legend]").hidden = !main.slices.some((slice) => slice.tumor !== null) || main.slices.length < 2;
}

// Tabs open a series at its key slice, or in its middle.
export function listenToTabs() {
  for (const tab of viewer.querySelectorAll("[data-series]")) {
    tab.addEventListener("click", (event) => {
      const series = state.stack.series.find((one) => one.id === tab.dataset.series);
      if (!series || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      state.touched = true;
      const key = series.slices.findIndex((slice) => slice.is_key);
      takeSeries(series, key < 0 ? Math.floor((series.slices.length - 1) / 2) : key);
    });
  }
}

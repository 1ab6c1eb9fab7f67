// The viewer of a study: a stack of slices, its tools and controls, the volume, the comparison,
// and the result beside it, which follows the slice.
import { Assessment } from "./assessment.js";
import { keepFolds } from "./folds.js";
import { alignment, matchingIndex } from "./viewer/geometry.js";
import { fileWindow, presets } from "./viewer/greys.js";
import { FullScreen } from "./viewer/fullscreen.js";
import { Pane } from "./viewer/pane.js";
import { VolumeView, volumesCanBeShown } from "./viewer/volume.js";

const KEPT = "sulcus.viewer"; // heatmap choices outlive the page; grey values belong to one series
const ZOOM_STEP = 1.25;
const REST = 300; // milliseconds after the last change of slice until the result follows
const NEWS_AFTER = 2000; // milliseconds between questions for slices while they are being made
const PRESET_KEYS = ["file", "automatic", "brain", "full", "narrow", "wide"];
const language = document.documentElement.lang || "en-GB";

const viewer = document.querySelector("[data-viewer]");
const control = (name) => viewer.querySelector(`[data-set="${name}"]`);
const button = (name) => viewer.querySelector(`[data-do="${name}"]`);
const words = viewer && JSON.parse(viewer.dataset.words);
const percent = new Intl.NumberFormat(language, { style: "percent" });
const decimal = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });

let stack = null; // what the server says about all slices
let main = null; // the pane of this study
let second = null; // the pane of the study to compare with
let active = null; // the pane that was touched last
let screen = null; // the viewer alone on the screen
let volume = null; // the volume view, once it was wanted
let tool = "move";
let inverted = false;
let greysOf = null; // the series whose grey values the controls are made for
let assessment = null; // the form beside the viewer
let linking = false; // one pane follows the other just now
let touched = new URLSearchParams(location.search).has("image");

const panes = () => [main, second].filter(Boolean);
const volumeIsOpen = () => button("volume")?.getAttribute("aria-pressed") === "true";

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function ask(url) {
  const answer = await fetch(url, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`the slices could not be asked for: ${answer.status}`);
  return answer.json();
}

// ---- Which slice ------------------------------------------------------------------------------

function seriesAt(position) {
  return stack.series.find((one) => one.slices.some((slice) => slice.position === position)) || stack.series[0];
}

function goTo(position) {
  const series = seriesAt(position);
  const index = Math.max(0, series.slices.findIndex((slice) => slice.position === position));
  if (series.id === main.series.id) main.go(index);
  else takeSeries(series, index);
  if (volumeIsOpen()) volume.goTo(index);
}

function takeSeries(series, index) {
  if (volumeIsOpen()) closeVolume();
  main.take(series, index);
  showSeries();
  prepareGreys();
}

function showSeries() {
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

function setCurrent(link, on) {
  if (on) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

// The pane has changed its slice: everything else that shows one follows.
function onSlice(pane) {
  if (pane !== main) {
    if (!linking && control("linked")?.checked) link(second, main);
    return;
  }
  if (!linking && second?.series && control("linked").checked) link(main, second);
  for (const each of document.querySelectorAll("[data-go]")) {
    setCurrent(each, Number(each.dataset.go) === main.slice.position);
  }
  showChosenThumbnail();
  offerHeat();
  showJump();
  assessment?.onSlice(main.slice);
  clearTimeout(onSlice.timer);
  onSlice.timer = setTimeout(follow, REST);
}

// The bar that leads a phone's reader from the slice to its result and back.
const jump = document.querySelector("[data-jump]");

function showJump() {
  const { slice } = main;
  if (!slice.label) return; // until there is an answer, the study's state stands there
  jump.querySelector("[data-jump-label]").textContent = slice.label;
  jump.querySelector("[data-jump-chance]").textContent = main.chance(slice);
}

function showJumpLinks() {
  const assessment = jump.querySelector("[data-jump-assessment]");
  assessment.hidden = !document.querySelector(assessment.hash);
}

function link(from, to) {
  linking = true;
  to.go(matchingIndex(from.series, from.index, to.series));
  linking = false;
}

// On a phone the result lies far below the slice that a link in it names.
function bringIntoSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  const middle = (top + bottom) / 2;
  if (middle < 0 || middle > window.innerHeight) element.scrollIntoView({ block: "center" });
}

// By hand: scrollIntoView would scroll the page as well.
function showChosenThumbnail() {
  const strip = document.querySelector("[data-thumbs]");
  const chosen = strip?.querySelector("[aria-current]");
  if (!chosen) return;
  const there = chosen.getBoundingClientRect();
  const box = strip.getBoundingClientRect();
  strip.scrollLeft += there.left + there.width / 2 - (box.left + box.width / 2);
}

// ---- The result beside the slice --------------------------------------------------------------

const result = () => document.getElementById("result");

function follow() {
  const { position } = main.slice;
  const address = new URL(location.href);
  if (touched) address.searchParams.set("image", position);
  history.replaceState(history.state, "", address);
  assessment.follow();
  if (result().dataset.image === String(position)) return;
  const url = `${viewer.dataset.resultUrl}?image=${position}`;
  window.htmx.ajax("GET", url, { target: "#result", swap: "outerHTML" });
}

function watchResult() {
  const { body } = document;
  let wasPolling = result().hasAttribute("data-poll");
  body.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr } = event.detail;
    if (target?.id !== "result" || xhr.status >= 400) return;
    // An answer about a slice that was left meanwhile must not replace a newer one.
    const about = new URL(xhr.responseURL, location.href).searchParams.get("image");
    const behind = about !== null && Number(about) !== main?.slice.position;
    if (main && behind && result().dataset.image !== about) event.detail.shouldSwap = false;
  });
  body.addEventListener("htmx:afterSwap", (event) => {
    showJumpLinks();
    const polling = result().hasAttribute("data-poll");
    if (wasPolling && !polling) finished();
    wasPolling = polling;
  });
  body.addEventListener("click", (event) => {
    const there = event.target.closest("[data-go]");
    if (!there || !main || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    touched = true;
    goTo(Number(there.dataset.go));
    bringIntoSight(main.stage);
  });
}

// The answer has come: its strip, its heatmaps, and what else the page shows of a finished study.
async function finished() {
  await news();
  window.htmx.trigger(document.body, "sulcus:finished");
  const { key } = result().dataset;
  if (!touched && key !== undefined) goTo(Number(key));
  assessment.follow();
}

async function news() {
  try {
    stack = await ask(viewer.dataset.stackUrl);
  } catch {
    return; // The next question may be answered.
  }
  const { position } = main.slice;
  const series = seriesAt(position);
  main.take(series, series.slices.findIndex((slice) => slice.position === position));
  showSeries();
  showThumbnails();
  if (greysOf !== main.series.id) prepareGreys();
}

function showThumbnails() {
  for (const waiting of document.querySelectorAll("[data-thumb-of]")) {
    const slice = stack.series.flatMap((one) => one.slices).find((one) => one.id === waiting.dataset.thumbOf);
    if (!slice?.ready) continue;
    const picture = new Image(72, 72);
    picture.alt = waiting.textContent.trim();
    picture.src = main.address("pixels", slice);
    waiting.replaceWith(picture);
  }
}

async function waitForNews() {
  while (!["done", "failed", "rejected"].includes(stack.status)) {
    await wait(NEWS_AFTER);
    if (!document.hidden) await news();
  }
}

// ---- Tools and controls -----------------------------------------------------------------------

function setTool(name) {
  tool = name;
  for (const each of ["move", "window", "measure"]) button(each).setAttribute("aria-pressed", String(each === name));
  for (const pane of panes()) {
    pane.allowTouch();
    if (name !== "measure") pane.measures.leaveKeys();
  }
  volume?.setTool(name);
  assessment?.onTool();
}

function warm() {
  const on = control("heat").checked;
  const choice = { on, opacity: Number(control("opacity").value) / 100 };
  for (const pane of panes()) pane.setHeat(choice);
  volume?.setHeat(choice);
  offerHeat();
  try {
    localStorage.setItem(KEPT, JSON.stringify({ on, opacity: control("opacity").value }));
  } catch {
    // Storage is switched off: the choice lasts as long as the page.
  }
  return choice;
}

function offerHeat() {
  const there = Boolean(main.series?.slices.some((slice) => slice.heat));
  viewer.querySelector("[data-heat-controls]").disabled = !there;
  control("opacity").disabled = !there || !control("heat").checked;
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) || "{}");
    if (typeof kept.on === "boolean") control("heat").checked = kept.on;
    if (kept.opacity) control("opacity").value = kept.opacity;
  } catch {
    // Nothing kept, or nothing readable: the defaults stand.
  }
}

// Level and width of a series, as far as its first slices tell; they are wanted with every bit.
async function prepareGreys() {
  const offered = Boolean(fileWindow(main.slice));
  viewer.querySelector("[data-file-window]").hidden = !offered;
  control("preset").value = offered ? "file" : "automatic";
  if (!main.slice.ready) return;
  greysOf = main.series.id;
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

function showWindow(window) {
  control("level").value = window.centre;
  control("width").value = window.width;
}

function onWindow(pane) {
  if (pane !== main || !pane.window) return;
  showWindow(pane.window);
  if (!onWindow.byPreset) control("preset").value = "own";
}

async function choosePreset(name) {
  const option = control("preset").querySelector(`[value="${name}"]`);
  if (option.hidden) return;
  control("preset").value = name;
  for (const pane of panes()) {
    const now = volumeIsOpen() ? volume.window : await pane.currentWindow();
    const isDefault = name === (fileWindow(pane.slice) ? "file" : "automatic");
    const chosen = presets[name](await pane.greys(), pane.slice, now);
    onWindow.byPreset = true;
    pane.setWindow(isDefault ? null : chosen);
    onWindow.byPreset = false;
    if (pane !== main) continue;
    showWindow(chosen);
    if (volumeIsOpen()) volume.setWindow(isDefault ? null : chosen);
  }
}

function slideWindow() {
  const window = { centre: Number(control("level").value), width: Number(control("width").value) };
  main.setWindow(window);
  if (volumeIsOpen()) volume.setWindow(window);
}

function onZoom(pane) {
  if (pane === active && !volumeIsOpen()) showZoom(percent.format(pane.magnification));
}

// NiiVue's planes have no one size of a pixel: there it is times the whole.
function showVolumeZoom() {
  showZoom(`×\u00a0${decimal.format(volume?.zoomed || 1)}`);
}

function showZoom(text) {
  viewer.querySelector("[data-zoom]").textContent = text;
}

function setInverted(on) {
  inverted = on;
  button("invert").setAttribute("aria-pressed", String(on));
  for (const pane of panes()) pane.invert(on);
  volume?.invert(on);
}

function zoomBy(factor) {
  if (volumeIsOpen()) volume.zoom(factor);
  else active.zoomTo(active.view.zoom * factor);
}

const actions = {
  move: () => setTool("move"),
  window: () => setTool("window"),
  measure: () => setTool(tool === "measure" ? "move" : "measure"),
  in: () => zoomBy(ZOOM_STEP),
  out: () => zoomBy(1 / ZOOM_STEP),
  fit: () => (volumeIsOpen() ? volume.fit() : active.fit()),
  invert: () => setInverted(!inverted),
  heat() {
    control("heat").checked = !control("heat").checked;
    warm();
  },
  reset() {
    setInverted(false);
    for (const pane of panes()) {
      pane.fit();
      pane.setWindow(null);
      pane.measures.clear();
    }
    if (volumeIsOpen()) volume.reset();
    prepareGreys();
  },
  full: () => screen.toggle(),
  box: () => assessment.startRegion("box"),
  outline: () => assessment.startRegion("outline"),
  volume: () => (volumeIsOpen() ? closeVolume() : openVolume()),
};
const keys = {
  "+": "in", "=": "in", "-": "out", "−": "out", 0: "fit", i: "invert", h: "heat", r: "reset",
  f: "full", v: "move", w: "window", m: "measure", b: "box", o: "outline",
}; // prettier-ignore

function onOtherKey(event) {
  const action = keys[event.key.toLowerCase()];
  const preset = PRESET_KEYS[Number(event.key) - 1];
  if (action) actions[action]();
  else if (preset) choosePreset(preset);
  else return;
  event.preventDefault();
}

// Wherever the keys are in the viewer, not only in the image: who pressed the button leaves by key.
function onKeyAnywhere(event) {
  const typing = event.target.matches("select, input:not([type='range'], [type='checkbox'])");
  if (event.defaultPrevented || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.toLowerCase() !== "f") return;
  event.preventDefault();
  screen.toggle();
}

function onKey(event, pane) {
  if (event.ctrlKey || event.metaKey || event.altKey || !pane.series) return;
  if (pane.onKey(event)) {
    touched = true;
    event.preventDefault();
  } else {
    onOtherKey(event);
  }
}

// ---- The volume -------------------------------------------------------------------------------

async function openVolume() {
  const note = viewer.querySelector("[data-no-volume]");
  note.hidden = true;
  if (!volumesCanBeShown()) {
    viewer.querySelector("[data-no-webgl]").hidden = false;
    return;
  }
  setVolumeOpen(true);
  try {
    volume ||= startVolume();
    const { id } = main.series;
    const address = (kind) => viewer.dataset[kind].replace(/0{8}(-0{4}){3}-0{12}/, id);
    const heatUrl = main.slices.some((slice) => slice.heat) ? address("heatVolumeUrl") : null;
    await volume.open(main.series, { volumeUrl: address("volumeUrl"), heatUrl, heat: warm() });
    volume.setTool(tool);
    volume.setPlanes(control("planes").value);
    volume.invert(inverted);
    volume.setWindow(main.window || fileWindow(main.slice));
    volume.goTo(main.index);
    viewer.querySelector("[data-volume-wait]").hidden = true;
    viewer.querySelector("[data-volume]").dataset.ready = "";
  } catch {
    closeVolume();
    note.hidden = false;
  }
}

function startVolume() {
  const started = new VolumeView(viewer.querySelector("[data-volume-canvas]"), {
    onMove: (index) => {
      if (volumeIsOpen()) main.go(index);
    },
  });
  started.onZoom = showVolumeZoom;
  started.onWindow = (window) => {
    showWindow(window);
    control("preset").value = "own";
  };
  started.onOtherKey = onOtherKey;
  return started;
}

function closeVolume() {
  setVolumeOpen(false);
  main.place();
}

function setVolumeOpen(open) {
  button("volume").setAttribute("aria-pressed", String(open));
  const room = viewer.querySelector("[data-volume]");
  delete room.dataset.ready;
  // Not out of the layout: a canvas without a size is an error to WebGL.
  room.classList.toggle("open", open);
  main.stage.classList.toggle("covered", open);
  viewer.querySelector("[data-volume-wait]").hidden = !open;
  viewer.querySelector("[data-volume-controls]").hidden = !open;
  if (open) showVolumeZoom();
  else onZoom(active);
}

// ---- Another study of the same patient --------------------------------------------------------

async function compare() {
  const { value, selectedOptions } = control("compare");
  const address = new URL(location.href);
  if (value) address.searchParams.set("compare", value);
  else address.searchParams.delete("compare");
  history.replaceState(history.state, "", address);
  second?.element.remove();
  second = null;
  setActive(main);
  viewer.querySelector("[data-panes]").classList.toggle("two", Boolean(value));
  viewer.querySelector("[data-linked]").hidden = !value;
  if (!value) return;
  let other = null;
  try {
    other = await ask(viewer.dataset.anyStackUrl.replace(/0{8}(-0{4}){3}-0{12}/, value));
  } catch {
    control("compare").value = "";
    compare();
    return;
  }
  if (control("compare").value === value) showSecond(other, selectedOptions[0].textContent.trim());
}

function showSecond(other, title) {
  const copy = viewer.querySelector("[data-second-pane]").content.cloneNode(true);
  const element = copy.querySelector("[data-pane]");
  element.querySelector("[data-pane-title]").textContent = title;
  viewer.querySelector("[data-panes]").append(copy);
  second = newPane(element);
  second.setHeat(warm());
  second.invert(inverted);
  const series = likeliestMatch(other.series);
  second.take(series, matchingIndex(main.series, main.index, series));
}

// The series that lies as the one on show does; of those the longest.
function likeliestMatch(all) {
  const rank = (series) => Math.abs(alignment(main.series, series)) * 1e6 + series.slices.length;
  return all.reduce((best, series) => (rank(series) > rank(best) ? series : best));
}

// ---- Start ------------------------------------------------------------------------------------

function newPane(element) {
  const urls = { pixels: viewer.dataset.pixelsUrl, values: viewer.dataset.valuesUrl, heatmap: viewer.dataset.heatmapUrl };
  const pane = new Pane(element, { urls, words, language, tool: () => tool, onSlice, onWindow, onZoom });
  for (const name of ["pointerdown", "focusin", "wheel"]) {
    element.addEventListener(name, () => setActive(pane), { passive: true });
  }
  for (const name of ["pointerdown", "wheel", "keydown"]) {
    element.addEventListener(name, () => (touched = true), { passive: true });
  }
  pane.stage.addEventListener("keydown", (event) => onKey(event, pane));
  return pane;
}

function setActive(pane) {
  active = pane;
  if (pane.series) onZoom(pane);
}

function listen() {
  for (const name of Object.keys(actions)) button(name)?.addEventListener("click", actions[name]);
  viewer.addEventListener("keydown", onKeyAnywhere);
  for (const name of ["level", "width"]) control(name).addEventListener("input", slideWindow);
  control("heat").addEventListener("change", warm);
  control("opacity").addEventListener("input", warm);
  control("preset").addEventListener("change", () => choosePreset(control("preset").value));
  control("planes").addEventListener("change", () => volume?.setPlanes(control("planes").value));
  control("compare")?.addEventListener("change", compare);
  control("linked")?.addEventListener("change", () => second && control("linked").checked && link(main, second));
  for (const tab of viewer.querySelectorAll("[data-series]")) {
    tab.addEventListener("click", (event) => {
      const series = stack.series.find((one) => one.id === tab.dataset.series);
      if (!series || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      touched = true;
      const key = series.slices.findIndex((slice) => slice.is_key);
      takeSeries(series, key < 0 ? Math.floor((series.slices.length - 1) / 2) : key);
    });
  }
}

async function start() {
  main = newPane(viewer.querySelector("[data-pane]"));
  active = main;
  screen = new FullScreen(viewer, {
    onChange: (on) => button("full").setAttribute("aria-pressed", String(on)),
  });
  keepFolds();
  assessment = new Assessment({ goTo, setTool, tool: () => tool, bringIntoSight: () => bringIntoSight(main.stage) });
  recall();
  while (!stack) {
    try {
      stack = await ask(viewer.dataset.stackUrl);
    } catch {
      await wait(NEWS_AFTER); // The slice that came with the page stays.
    }
  }
  const position = Number(viewer.dataset.image);
  const series = seriesAt(position);
  warm();
  main.take(series, series.slices.findIndex((slice) => slice.position === position));
  showSeries();
  listen();
  watchResult();
  assessment.start(main);
  viewer.dataset.ready = "";
  prepareGreys();
  if (control("compare")?.value) compare();
  waitForNews();
}

if (viewer) start();

// The viewer of one slice: zoom, pan, grey values and the heatmap on top. Pointer, touch and keys.
const MAX_ZOOM = 16;
const ZOOM_STEP = 1.25;
const PAN_STEP = 40; // pixels of the screen for one press of an arrow key
const KEPT = "sulcus.viewer"; // heatmap choices outlive the page; grey values belong to one slice

const viewer = document.querySelector("[data-viewer]");
const stage = viewer?.querySelector("[data-stage]");
const layers = viewer?.querySelector("[data-layers]");
const slice = viewer?.querySelector("[data-slice]");
const heat = viewer?.querySelector("[data-heat]");
const control = (name) => viewer.querySelector(`[data-set="${name}"]`);
const button = (name) => viewer.querySelector(`[data-do="${name}"]`);
const percent = new Intl.NumberFormat(document.documentElement.lang || "en", { style: "percent" });

const view = { zoom: 1, x: 0, y: 0, inverted: false };

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function place() {
  // The slice never leaves the stage: half of what overhangs is how far it may move.
  const free = (side) => Math.max(0, (side * (view.zoom - 1)) / 2);
  view.x = clamp(view.x, -free(stage.clientWidth), free(stage.clientWidth));
  view.y = clamp(view.y, -free(stage.clientHeight), free(stage.clientHeight));
  layers.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  // At rest one finger scrolls the page; a zoomed slice moves under the finger.
  stage.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
  stage.classList.toggle("zoomed", view.zoom > 1);
  slice.classList.toggle("pixelated", view.zoom >= 4);
  viewer.querySelector("[data-zoom]").textContent = percent.format(view.zoom);
}

function zoomTo(zoom, clientX, clientY) {
  const box = stage.getBoundingClientRect();
  const atX = clientX === undefined ? 0 : clientX - box.left - box.width / 2;
  const atY = clientY === undefined ? 0 : clientY - box.top - box.height / 2;
  const next = clamp(zoom, 1, MAX_ZOOM);
  const ratio = next / view.zoom;
  view.x = atX - (atX - view.x) * ratio;
  view.y = atY - (atY - view.y) * ratio;
  view.zoom = next;
  place();
}

function fit() {
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  place();
}

function shade() {
  const brightness = Number(control("brightness").value) / 100;
  const contrast = Number(control("contrast").value) / 100;
  slice.style.filter = `brightness(${brightness}) contrast(${contrast}) invert(${view.inverted ? 1 : 0})`;
  button("invert").setAttribute("aria-pressed", String(view.inverted));
}

function warm() {
  const on = control("heat").checked;
  heat.hidden = !(on && heat.getAttribute("src"));
  heat.style.opacity = String(Number(control("opacity").value) / 100);
  control("opacity").disabled = !on;
  try {
    localStorage.setItem(KEPT, JSON.stringify({ on, opacity: control("opacity").value }));
  } catch {
    // Storage is switched off: the choice lasts as long as the page.
  }
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

function reset() {
  control("brightness").value = 100;
  control("contrast").value = 100;
  view.inverted = false;
  shade();
  fit();
}

const actions = {
  in: () => zoomTo(view.zoom * ZOOM_STEP),
  out: () => zoomTo(view.zoom / ZOOM_STEP),
  fit,
  reset,
  invert() {
    view.inverted = !view.inverted;
    shade();
  },
  heat() {
    if (viewer.querySelector("[data-heat-controls]").disabled) return;
    control("heat").checked = !control("heat").checked;
    warm();
  },
};
const keys = { "+": "in", "=": "in", "-": "out", "−": "out", 0: "fit", i: "invert", h: "heat", r: "reset" };
const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = arrows[event.key];
  if (arrow && view.zoom > 1) {
    view.x += arrow[0] * PAN_STEP;
    view.y += arrow[1] * PAN_STEP;
    place();
  } else if (keys[event.key.toLowerCase()]) {
    actions[keys[event.key.toLowerCase()]]();
  } else {
    return;
  }
  event.preventDefault();
}

function followPointers() {
  const pointers = new Map();
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { distance: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const before = pointers.size === 2 ? spread() : null;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (before) {
      const after = spread();
      view.x += after.x - before.x;
      view.y += after.y - before.y;
      zoomTo((view.zoom * after.distance) / Math.max(1, before.distance), after.x, after.y);
    } else if (view.zoom > 1) {
      view.x += event.clientX - last.x;
      view.y += event.clientY - last.y;
      place();
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
}

// The result arrives by itself, outside the viewer; it names the heatmap of this slice.
function takeHeatmap() {
  const url = document.getElementById("result")?.dataset.heatmapUrl;
  if (!url || heat.getAttribute("src") === url) return;
  heat.src = url;
  viewer.querySelector("[data-heat-controls]").disabled = false;
  warm();
}

// By hand: scrollIntoView would scroll the page as well.
function showChosenThumbnail() {
  const strip = document.querySelector("[data-strip]");
  const chosen = strip?.querySelector("[aria-current]");
  if (!chosen) return;
  const there = chosen.getBoundingClientRect();
  const box = strip.getBoundingClientRect();
  strip.scrollLeft += there.left + there.width / 2 - (box.left + box.width / 2);
}

function start() {
  for (const name of Object.keys(actions)) button(name)?.addEventListener("click", actions[name]);
  for (const name of ["brightness", "contrast"]) control(name).addEventListener("input", shade);
  control("heat").addEventListener("change", warm);
  control("opacity").addEventListener("input", warm);
  stage.addEventListener("keydown", onKey);
  stage.addEventListener("dblclick", (event) => {
    if (view.zoom > 1) fit();
    else zoomTo(3, event.clientX, event.clientY);
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoomTo(view.zoom * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.clientX, event.clientY);
    },
    { passive: false },
  );
  followPointers();
  slice.addEventListener("error", () => {
    viewer.querySelector("[data-stage-error]").hidden = false;
  });
  heat.addEventListener("error", () => heat.removeAttribute("src"));
  document.body.addEventListener("htmx:afterSwap", takeHeatmap);
  new ResizeObserver(place).observe(stage);
  recall();
  shade();
  warm();
  takeHeatmap();
  showChosenThumbnail();
}

if (viewer) start();

// The reading room by keys alone: they work wherever the reader is on the page, except while typing.
import { panel } from "./assessment/panel.js";

const CLASSES = 4; // of the model; the key behind them is something else
const TYPING = "textarea, select, [contenteditable], input:not([type='radio'], [type='checkbox'], [type='range'])";

const bar = document.querySelector("[data-reading]");
let draft = null; // what has been begun

// Keys of the assessment come before those of the viewer, which has its own with Shift.
export function readByKeys(assessment) {
  draft = assessment.draft;
  if (bar) document.addEventListener("keydown", onKey, { capture: true });
}

function onKey(event) {
  const { target, key } = event;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (target.matches?.(TYPING) || document.querySelector("dialog[open]")) return;
  const act = actionOf(key.toLowerCase(), target);
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

function actionOf(key, target) {
  const number = Number(key);
  if (number >= 1 && number <= CLASSES + 1) return panel.form && (() => chooseClass(number - 1));
  // Enter is a button's own where one has the focus, and sets corners in the image.
  if (key === "enter") return target === document.body || target.id === "main" ? save : null;
  return { a: agree, u: unsure, r: markRegion, s: save, n: goNext, p: goBack }[key];
}

const choices = () => {
  const found = panel.field("label");
  return found.options ? [...found.options].filter((one) => one.value) : [...found];
};

function chooseClass(index) {
  const choice = choices()[index];
  if (choice.type === "radio") choose(choice);
  else if (choice.value === panel.data.sliceLabel) agree();
  else {
    panel.field("label").value = choice.value;
    choose(panel.find("#verdict-disagree"), choice.textContent);
  }
  if (index === CLASSES) panel.find("#finding").focus();
}

function agree() {
  choose(panel.find("#verdict-agree"));
}

function unsure() {
  choose(panel.find("#verdict-unsure") || panel.find("#label-unsure"));
}

// `text` is what is told to whoever listens; by default the choice's own.
function choose(radio, text = radio?.labels[0]?.querySelector("span")?.textContent) {
  if (!radio) return;
  const slice = panel.find("#scope-image");
  if (slice) slice.checked = true;
  radio.checked = true;
  radio.dispatchEvent(new Event("change", { bubbles: true }));
  document.getElementById("announcer").textContent = (text || "").trim();
}

function markRegion() {
  panel.find("[data-region-start]")?.click();
}

// What was said before the model's answer stands, unless something else has been begun.
function save() {
  const keep = panel.find("[data-keep]");
  if (keep && !draft.begun) keep.click();
  else panel.form?.requestSubmit();
}

function goNext() {
  bar.querySelector("[data-reading-next]").click();
}

function goBack() {
  bar.querySelector("[data-reading-previous]")?.click();
}

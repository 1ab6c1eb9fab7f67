// The files that were chosen and those left out, in lists that tell what gets sent.
import { chosenFiles, Contents, droppedFiles, uselessness } from "./files.js";
import { showOmitted } from "./omitted.js";
import { byPath, counted, element, form, input, size, texts } from "./page.js";
import { forgetAnswers } from "./questions.js";

const MOST_ITEMS = 12; // of a series of hundreds, a few lines and their number say enough

const maxBytes = Number(texts.maxBytes);
const list = form.querySelector("[data-chosen]");
const count = form.querySelector("[data-count]");
const omittedBox = form.querySelector("[data-omitted]");
const more = element("li", "chosen-more muted");

export const chosen = []; // {file, name, url, item, note}; beyond MOST_ITEMS without item and note
export const omitted = []; // {name, reason}
const contents = new Contents();
let adding = Promise.resolve(); // one choice after the other

export function add(files) {
  input.value = ""; // the list is what gets sent; the same file can be chosen again
  adding = adding.then(() => addAll(files));
  return adding;
}

// Every choice so far stands in the lists.
export function allAdded() {
  return adding;
}

export function addFolder(files) {
  form.elements.namedItem("forgiving").checked = true;
  // Browsers list folders in any order; pictures are shown in the order in which they come.
  add(files.sort((a, b) => byPath.compare(a.path, b.path)));
}

export async function addDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = chosenFiles(transfer.files);
  if (!entries.some((entry) => entry.isDirectory)) add(files);
  else addFolder(await droppedFiles(entries));
}

async function addAll(files) {
  forgetAnswers();
  for (const { file, path } of files) {
    const useless = uselessness({ file, path });
    const twin = useless ? null : await contents.twinOf(file).catch(() => null);
    if (useless) leaveOut(path, texts[`omit${useless[0].toUpperCase()}${useless.slice(1)}`]);
    else if (twin?.name === path) leaveOut(path, texts.omitAgain);
    else if (twin) leaveOut(path, texts.omitTwin.replace("{name}", twin.name));
    else keep({ file, name: freeName(path) });
  }
  showCount();
}

function keep(entry) {
  chosen.push(entry);
  contents.add(entry);
  if (chosen.length <= MOST_ITEMS) show(entry);
}

// Two files of one name, each chosen by itself, may come from two folders.
function freeName(path) {
  const taken = (name) => chosen.some((entry) => entry.name === name);
  let name = path;
  for (let number = 2; taken(name); number += 1) name = `${path} (${number})`;
  return name;
}

function leaveOut(name, reason) {
  if (!omitted.some((one) => one.name === name && one.reason === reason)) omitted.push({ name, reason });
}

function removeEntry(entry) {
  const at = chosen.indexOf(entry);
  chosen.splice(at, 1);
  contents.remove(entry);
  entry.item.remove();
  URL.revokeObjectURL(entry.url);
  const waiting = chosen[MOST_ITEMS - 1];
  if (waiting && !waiting.item) show(waiting);
  const next = chosen[at] || chosen[at - 1];
  (next?.item ? next.item.querySelector("button") : input).focus();
  if (!chosen.length) omitted.length = 0;
  forgetAnswers();
  showCount();
}

// ---- On the page ------------------------------------------------------------------------------

function show(entry) {
  entry.url = URL.createObjectURL(entry.file);
  entry.item = itemFor(entry);
  list.append(entry.item);
}

function itemFor(entry) {
  const item = element("li", "chosen-item");
  const picture = document.createElement("img");
  picture.alt = "";
  picture.src = entry.url;
  picture.addEventListener("error", () => picture.classList.add("unseen"));
  const name = element("bdi", "chosen-name", entry.name);
  const facts = element("span", "muted", size(entry.file.size));
  const note = element("span", "chosen-note", courtesyNote(entry.file));
  const words = element("span", "chosen-words");
  words.append(name, facts, note);
  const remove = element("button", "icon-button", "×");
  remove.type = "button";
  remove.setAttribute("aria-label", texts.textRemove.replace("{name}", entry.name));
  remove.addEventListener("click", () => removeEntry(entry));
  item.append(picture, words, remove);
  entry.note = note;
  return item;
}

function totalSize() {
  return chosen.reduce((sum, { file }) => sum + file.size, 0);
}

function showCount() {
  const all = chosen.length + omitted.length;
  count.textContent = all
    ? [counted(all, "Chosen"), ...(omitted.length ? [counted(chosen.length, "Ready")] : []), size(totalSize())].join(" · ")
    : "";
  showOmitted(omittedBox, omitted);
  const unseen = chosen.length - MOST_ITEMS;
  if (unseen > 0) {
    more.textContent = texts.textMore.replace("{count}", unseen);
    list.append(more);
  } else {
    more.remove();
  }
}

// ---- Limits that the server will hold them to -------------------------------------------------

function courtesyNote(file) {
  return file.size > maxBytes ? texts.textLarge : "";
}

export function courtesyProblem() {
  if (!chosen.length) return texts.textNone;
  const wrong = chosen.find(({ file }) => courtesyNote(file));
  if (wrong) return `${wrong.name}: ${courtesyNote(wrong.file)}`;
  return totalSize() > maxBytes ? texts.textTotal : "";
}

// Notes of an earlier answer of the server give way to our own.
export function renewNotes() {
  for (const entry of chosen) if (entry.note) entry.note.textContent = courtesyNote(entry.file);
}

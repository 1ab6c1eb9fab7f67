// The upload form: thumbnails, removal, progress, and problems in words; nothing chosen gets lost.
const locale = document.documentElement.lang || "en";
const megabytes = new Intl.NumberFormat(locale, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 });
const kilobytes = new Intl.NumberFormat(locale, { style: "unit", unit: "kilobyte", maximumFractionDigits: 0 });
const percent = new Intl.NumberFormat(locale, { style: "percent" });

const form = document.querySelector("[data-upload]");
const texts = form.dataset;
const maxBytes = Number(texts.maxBytes);
const input = form.querySelector('input[type="file"]');
const drop = form.querySelector("[data-drop]");
const list = form.querySelector("[data-chosen]");
const count = form.querySelector("[data-count]");
const problem = document.getElementById("upload-problem");
const progress = form.querySelector("[data-progress]");
const state = form.querySelector("[data-state]");
const button = form.querySelector('button[type="submit"]');

const folder = form.querySelector("[data-folder]");
const question = form.querySelector("[data-question]");
const more = element("li", "chosen-more muted");
const MOST_ITEMS = 12; // of a series of hundreds, a few lines and their number say enough

let chosen = []; // {file, url, item, note}; beyond MOST_ITEMS without item and note

function size(bytes) {
  return bytes < 1e6 ? kilobytes.format(Math.ceil(bytes / 1000)) : megabytes.format(bytes / 1e6);
}

function same(a, b) {
  return a.name === b.name && a.size === b.size && a.lastModified === b.lastModified;
}

function courtesyNote(file) {
  if (file.size === 0) return texts.textEmpty;
  return file.size > maxBytes ? texts.textLarge : "";
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function itemFor(entry) {
  const item = element("li", "chosen-item");
  const picture = document.createElement("img");
  picture.alt = "";
  picture.src = entry.url;
  picture.addEventListener("error", () => picture.classList.add("unseen"));
  const name = element("bdi", "chosen-name", entry.file.name);
  const facts = element("span", "muted", size(entry.file.size));
  const note = element("span", "chosen-note", courtesyNote(entry.file));
  const words = element("span", "chosen-words");
  words.append(name, facts, note);
  const remove = element("button", "icon-button", "×");
  remove.type = "button";
  remove.setAttribute("aria-label", texts.textRemove.replace("{name}", entry.file.name));
  remove.addEventListener("click", () => removeEntry(entry));
  item.append(picture, words, remove);
  entry.note = note;
  return item;
}

function add(files) {
  for (const file of files) {
    if (chosen.some((entry) => same(entry.file, file))) continue;
    const entry = { file };
    chosen.push(entry);
    if (chosen.length <= MOST_ITEMS) show(entry);
  }
  input.value = ""; // the list is what gets sent; the same file can be chosen again
  question.hidden = true;
  showCount();
}

function show(entry) {
  entry.url = URL.createObjectURL(entry.file);
  entry.item = itemFor(entry);
  list.append(entry.item);
}

function removeEntry(entry) {
  const at = chosen.indexOf(entry);
  chosen.splice(at, 1);
  entry.item.remove();
  URL.revokeObjectURL(entry.url);
  const waiting = chosen[MOST_ITEMS - 1];
  if (waiting && !waiting.item) show(waiting);
  const next = chosen[at] || chosen[at - 1];
  (next ? next.item.querySelector("button") : input).focus();
  question.hidden = true;
  showCount();
}

function showCount() {
  const total = chosen.reduce((sum, { file }) => sum + file.size, 0);
  count.textContent = chosen.length
    ? `${texts.textCount.replace("{count}", chosen.length)} · ${size(total)}`
    : "";
  const unseen = chosen.length - MOST_ITEMS;
  if (unseen > 0) {
    more.textContent = texts.textMore.replace("{count}", unseen);
    list.append(more);
  } else {
    more.remove();
  }
}

// Files of a folder that was dropped, however deep.
async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await filesIn(one)));
  }
}

function addFolder(files) {
  form.elements.namedItem("forgiving").checked = true;
  add(files.filter((file) => file.size > 0 && !file.name.startsWith(".")));
}

async function takeDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [...transfer.files];
  if (!entries.some((entry) => entry.isDirectory)) {
    add(files);
    return;
  }
  addFolder((await Promise.all(entries.map(filesIn))).flat());
}

function preview(name, regions) {
  const figure = element("figure", "question-image");
  const entry = chosen.find(({ file }) => file.name === name);
  if (entry && entry.file.type.startsWith("image/")) {
    const frame = element("div", "question-frame");
    const picture = document.createElement("img");
    picture.src = entry.url || URL.createObjectURL(entry.file);
    picture.alt = name;
    frame.append(picture);
    for (const [left, top, right, bottom] of regions) {
      const box = element("span", "question-box");
      box.title = texts.textRegion;
      box.style.insetInlineStart = `${left * 100}%`;
      box.style.top = `${top * 100}%`;
      box.style.width = `${(right - left) * 100}%`;
      box.style.height = `${(bottom - top) * 100}%`;
      frame.append(box);
    }
    figure.append(frame);
  } else {
    figure.append(element("p", "muted", texts.textUnseen));
  }
  figure.append(element("figcaption", "", name));
  return figure;
}

function ask(regions) {
  const images = Object.entries(regions).map(([name, found]) => preview(name, found));
  question.querySelector("[data-question-images]").replaceChildren(...images);
  question.hidden = false;
  question.focus();
}

function showProblem(sentences) {
  const box = problem.querySelector("[data-problem]");
  box.replaceChildren(...sentences.map((sentence) => element("p", "", sentence)));
  problem.hidden = false;
  problem.focus();
}

function courtesyProblem() {
  if (!chosen.length) return texts.textNone;
  const wrong = chosen.find(({ file }) => courtesyNote(file));
  if (wrong) return `${wrong.file.name}: ${courtesyNote(wrong.file)}`;
  const total = chosen.reduce((sum, { file }) => sum + file.size, 0);
  return total > maxBytes ? texts.textTotal : "";
}

function busy(on) {
  button.disabled = on;
  progress.hidden = !on;
  form.setAttribute("aria-busy", String(on));
}

// The keys of `errors` are names of files or of fields; each sentence goes to where it belongs.
function showErrors(answer) {
  const sentences = [answer.detail || texts.textFailed];
  for (const [key, value] of Object.entries(answer.errors || {})) {
    const sentence = [value].flat().join(" ");
    const entry = chosen.find(({ file }) => file.name === key);
    const control = entry ? null : form.elements.namedItem(key);
    if (entry?.note) entry.note.textContent = sentence;
    control?.setAttribute?.("aria-invalid", "true");
    const named = entry ? `${key}: ${sentence}` : sentence;
    if (!sentences.includes(named) && !sentences.includes(sentence)) sentences.push(named);
  }
  showProblem(sentences);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {}; // a proxy's own error page
  }
}

function finished(request) {
  const answer = parsed(request.responseText);
  if (request.status === 201 && answer.location) {
    window.location.assign(answer.location);
    return;
  }
  busy(false);
  if (answer.code === "text-in-pixels") ask(answer.regions);
  else showErrors(answer);
}

function send() {
  const data = new FormData(form);
  data.delete(input.name);
  for (const { file } of chosen) data.append(input.name, file, file.name);
  const request = new XMLHttpRequest();
  const bar = progress.querySelector("progress");
  request.open("POST", form.action || window.location.href);
  request.setRequestHeader("Accept", "application/json");
  request.upload.addEventListener("progress", (event) => {
    if (!event.lengthComputable) return;
    bar.value = event.loaded / event.total;
    state.textContent = texts.textSending.replace("{percent}", percent.format(bar.value));
  });
  request.upload.addEventListener("load", () => {
    bar.removeAttribute("value");
    state.textContent = texts.textChecking;
  });
  request.addEventListener("load", () => finished(request));
  request.addEventListener("error", () => {
    busy(false);
    showProblem([texts.textOffline]);
  });
  bar.value = 0;
  busy(true);
  request.send(data);
}

input.addEventListener("change", () => add(input.files));
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("drop-over");
  });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, () => drop.classList.remove("drop-over"));
}
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  takeDrop(event.dataTransfer);
});
folder.addEventListener("change", () => {
  addFolder([...folder.files]);
  folder.value = "";
});
folder.parentElement.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  folder.click();
});
for (const answer of question.querySelectorAll("[data-answer]")) {
  answer.addEventListener("click", () => {
    form.elements.namedItem("burned_in").value = answer.dataset.answer;
    question.hidden = true;
    send();
  });
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  problem.hidden = true;
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  for (const entry of chosen) if (entry.note) entry.note.textContent = courtesyNote(entry.file);
  const trouble = courtesyProblem();
  if (trouble) showProblem([trouble]);
  else send();
});
// Coming back with the browser's Back button: the form must be usable again.
window.addEventListener("pageshow", () => busy(false));

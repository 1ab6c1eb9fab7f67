// The upload form: what was chosen, what is left out and why, questions before anything is kept,
// progress, and problems in words. Nothing chosen gets lost.
import { chosenFiles, Contents, droppedFiles, uselessness } from "./upload/files.js";

const locale = document.documentElement.lang || "en-GB";
const megabytes = new Intl.NumberFormat(locale, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 });
const kilobytes = new Intl.NumberFormat(locale, { style: "unit", unit: "kilobyte", maximumFractionDigits: 0 });
const plural = new Intl.PluralRules(locale);
const byPath = new Intl.Collator(locale, { numeric: true });
const days = new Intl.DateTimeFormat(locale, { dateStyle: "long" });
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

const MOST_NAMES = 5; // of files that are left out for one reason
const omittedBox = form.querySelector("[data-omitted]");
const asks = [...form.querySelectorAll("[data-ask]")];

const chosen = []; // {file, name, url, item, note}; beyond MOST_ITEMS without item and note
const omitted = []; // {name, reason}
const contents = new Contents();
let adding = Promise.resolve(); // one choice after the other

function size(bytes) {
  return bytes < 1e6 ? kilobytes.format(Math.ceil(bytes / 1000)) : megabytes.format(bytes / 1e6);
}

function courtesyNote(file) {
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

function add(files) {
  input.value = ""; // the list is what gets sent; the same file can be chosen again
  adding = adding.then(() => addAll(files));
  return adding;
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

function show(entry) {
  entry.url = URL.createObjectURL(entry.file);
  entry.item = itemFor(entry);
  list.append(entry.item);
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

function showCount() {
  const total = chosen.reduce((sum, { file }) => sum + file.size, 0);
  const all = chosen.length + omitted.length;
  count.textContent = all
    ? [counted(all, "Chosen"), ...(omitted.length ? [counted(chosen.length, "Ready")] : []), size(total)].join(" · ")
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

// "1 file chosen", "8 files chosen": the texts stand in the page in both forms.
function counted(number, what) {
  const form = plural.select(number) === "one" ? "One" : "Other";
  return texts[`count${what}${form}`].replace("{count}", number);
}

// Files that are left out, by reason, with as many names as are worth reading.
function showOmitted(box, files) {
  box.hidden = !files.length;
  box.querySelector("summary").textContent = counted(files.length, "Omitted");
  const reasons = [...new Set(files.map((one) => one.reason))];
  const items = reasons.map((reason) => {
    const names = files.filter((one) => one.reason === reason).map((one) => one.name);
    const item = element("li", "", "");
    item.append(element("span", "omitted-reason", reason));
    for (const name of names.slice(0, MOST_NAMES)) item.append(element("bdi", "omitted-name", name));
    const unnamed = names.length - MOST_NAMES;
    if (unnamed > 0) item.append(element("span", "muted", texts.textMore.replace("{count}", unnamed)));
    return item;
  });
  box.querySelector("ul").replaceChildren(...items);
}

function addFolder(files) {
  form.elements.namedItem("forgiving").checked = true;
  // Browsers list folders in any order; pictures are shown in the order in which they come.
  add(files.sort((a, b) => byPath.compare(a.path, b.path)));
}

async function takeDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = chosenFiles(transfer.files);
  if (!entries.some((entry) => entry.isDirectory)) add(files);
  else addFolder(await droppedFiles(entries));
}

// What was decided was decided about these files and this code.
function forgetAnswers() {
  answer("split", "ask");
  answer("known", "ask");
  question.hidden = true;
  closeAsks();
}

function answer(name, value) {
  form.elements.namedItem(name).value = value;
}

function closeAsks() {
  for (const box of asks) box.hidden = true;
  button.hidden = false;
}

function openAsk(kind, { title, text, items = [], hide = [], fill = {} }) {
  closeAsks();
  const box = asks.find((one) => one.dataset.ask === kind);
  if (title) box.querySelector("[data-ask-title]").textContent = title.replace(/\.$/, "");
  box.querySelector("[data-ask-text]").textContent = text;
  box.querySelector("[data-ask-list]")?.replaceChildren(...items);
  for (const choice of box.querySelectorAll("[data-choice]")) {
    choice.hidden = hide.includes(choice.dataset.choice);
    choice.dataset.template ??= choice.textContent;
    const template = fill.count === 1 && choice.dataset.one ? choice.dataset.one : choice.dataset.template;
    choice.textContent = Object.entries(fill).reduce(
      (words, [name, value]) => words.replace(`{${name}}`, value),
      template,
    );
  }
  button.hidden = true;
  box.hidden = false;
  box.focus();
}

function askAboutCode(text) {
  openAsk("code", { text });
}

function askAboutPatients(groups, { title, text, mayKeep }) {
  const items = groups.map(({ label, files, examples }) => {
    const item = element("li", "", "");
    const names = examples.join(", ") + (files > examples.length ? ", …" : "");
    item.append(
      element("bdi", "ask-name", label || texts.textOtherFiles),
      element("span", "muted", counted(files, "Files")),
      element("bdi", "muted ask-examples", names),
    );
    return item;
  });
  openAsk("several", {
    title, text, items, hide: mayKeep ? [] : ["split=no"], fill: { count: groups.length },
  });
}

function askAboutKnown({ detail, known, files, fresh, may_add: mayAdd }) {
  const items = known.slice(0, MOST_NAMES).map((one) => {
    const item = element("li", "", "");
    item.append(
      linkTo(one.page, texts.textEarlier.replace("{code}", one.patient_code)),
      element("span", "muted", days.format(new Date(one.created_at))),
      element("span", "muted", texts.textMatching.replace("{count}", one.matching).replace("{total}", files)),
    );
    return item;
  });
  openAsk("known", {
    title: detail,
    text: known.length > 1 ? texts.textEarlierMany : texts.textEarlierOne,
    items,
    hide: mayAdd ? [] : ["known=add"],
    fill: { count: fresh },
  });
}

function askAboutConflict({ detail, earlier_code: code, page }) {
  const item = element("li", "", "");
  item.append(linkTo(page, texts.textEarlier.replace("{code}", code)));
  openAsk("conflict", { text: detail, items: [item], fill: { code } });
  asks.find((one) => one.dataset.ask === "conflict").dataset.code = code;
}

function linkTo(address, words) {
  const link = element("a", "", words);
  link.href = address;
  return link;
}

function preview(name, regions) {
  const figure = element("figure", "question-image");
  const entry = chosen.find((one) => one.name === name);
  if (entry && entry.file.type.startsWith("image/")) {
    const frame = element("div", "question-frame");
    const picture = document.createElement("img");
    picture.src = entry.url || URL.createObjectURL(entry.file);
    picture.alt = name;
    // Browsers do not show every format that the portal reads.
    picture.addEventListener("error", () => frame.replaceWith(element("p", "muted", texts.textUnseen)));
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
  if (wrong) return `${wrong.name}: ${courtesyNote(wrong.file)}`;
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
    const entry = chosen.find((one) => one.name === key);
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
    arrived(answer);
    return;
  }
  busy(false);
  if (answer.code === "text-in-pixels") ask(answer.regions);
  else if (answer.code === "patient-code-questioned") askAboutCode(answer.detail);
  else if (answer.code === "several-studies") {
    askAboutPatients(answer.groups, {
      title: answer.detail,
      text: answer.may_keep ? texts.textGuessed : texts.textApart,
      mayKeep: answer.may_keep,
    });
  } else if (answer.code === "known-content") askAboutKnown(answer);
  else if (answer.code === "patient-code-conflict") askAboutConflict(answer);
  else showErrors(answer);
}

// Straight to the study, unless there is something to say that stands nowhere else.
function arrived(answer) {
  const leftOut = answer.left_out.map(({ name, reason }) => ({ name, reason }));
  if (answer.studies.length === 1 && !omitted.length && !leftOut.length) {
    window.location.assign(answer.location);
    return;
  }
  const done = document.querySelector("[data-done]");
  const parts = [
    counted(chosen.length + omitted.length, "Chosen"),
    counted(chosen.length, "Sent"),
    counted(answer.stored, "Kept"),
  ];
  done.querySelector("[data-done-count]").textContent = parts.join(" · ");
  showOmitted(done.querySelector("[data-done-omitted]"), [...omitted, ...leftOut]);
  const links = answer.studies.map((study) => {
    const item = element("li", "", "");
    const many = answer.studies.length > 1;
    const words = many ? texts.textEarlier.replace("{code}", study.patient_code) : texts.textOpen;
    const link = linkTo(study.location, words);
    if (!many) {
      link.setAttribute("role", "button");
    }
    item.append(link);
    if (many) item.append(element("bdi", "muted", study.label), element("span", "muted", counted(study.images, "Images")));
    return item;
  });
  done.querySelector("[data-done-studies]").replaceChildren(...links);
  form.hidden = true;
  done.hidden = false;
  done.focus();
  window.scrollTo({ top: 0 });
}

// What can be asked about before hundreds of megabytes are on their way. Where this does not work,
// the upload itself asks.
async function questionBefore() {
  const data = new FormData();
  data.append("csrf_token", form.elements.namedItem("csrf_token").value);
  data.append("patient_code", form.elements.namedItem("patient_code").value);
  data.append("paths", paths());
  try {
    const response = await fetch(texts.checkUrl, { method: "POST", body: data, headers: { Accept: "application/json" } });
    const found = await response.json();
    if (found.code_question && !form.elements.namedItem("code_confirmed").value) {
      askAboutCode(found.code_question);
      return true;
    }
    if (found.patients?.length > 1 && form.elements.namedItem("split").value === "ask") {
      askAboutPatients(found.patients, {
        title: texts.textLike.replace("{count}", found.patients.length),
        text: texts.textGuessed,
        mayKeep: true,
      });
      return true;
    }
  } catch {
    return false;
  }
  return false;
}

function paths() {
  return JSON.stringify(chosen.map(({ name }) => name));
}

async function start() {
  await adding;
  const trouble = courtesyProblem();
  if (trouble) showProblem([trouble]);
  else if (!(await questionBefore())) send();
}

function send() {
  const data = new FormData(form);
  data.delete(input.name);
  for (const { file, name } of chosen) data.append(input.name, file, name);
  data.append("paths", paths()); // browsers may cut folders off the name of a part
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

input.addEventListener("change", () => add(chosenFiles(input.files)));
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
  addFolder(chosenFiles(folder.files));
  folder.value = "";
});
folder.parentElement.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  folder.click();
});
for (const choice of question.querySelectorAll("[data-answer]")) {
  choice.addEventListener("click", () => {
    answer("burned_in", choice.dataset.answer);
    question.hidden = true;
    start();
  });
}
for (const choice of form.querySelectorAll("[data-choice]")) {
  choice.addEventListener("click", () => {
    const [name, value] = choice.dataset.choice.split("=");
    if (name === "patient_code") answer(name, choice.closest("[data-ask]").dataset.code);
    else answer(name, value);
    closeAsks();
    start();
  });
}
for (const back of form.querySelectorAll("[data-back]")) {
  back.addEventListener("click", () => {
    closeAsks();
    const control = form.elements.namedItem(back.dataset.back);
    control.focus();
    control.select?.();
  });
}
form.elements.namedItem("patient_code").addEventListener("input", () => {
  answer("code_confirmed", "");
  closeAsks();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  problem.hidden = true;
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  for (const entry of chosen) if (entry.note) entry.note.textContent = courtesyNote(entry.file);
  start();
});
// Coming back with the browser's Back button: the form must be usable again.
window.addEventListener("pageshow", () => busy(false));

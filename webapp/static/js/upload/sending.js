// Sending what was chosen: questions that can be asked before, progress, and the server's answer.
import { arrived } from "./arrival.js";
import { askAboutBurnedIn } from "./burnedin.js";
import { chosen } from "./chosen.js";
import { button, form, input, percent, texts } from "./page.js";
import { showErrors, showProblem } from "./problems.js";
import { askAboutCode, askAboutConflict, askAboutKnown, askAboutPatients } from "./questions.js";

const progress = form.querySelector("[data-progress]");
const state = form.querySelector("[data-state]");

export function busy(on) {
  button.disabled = on;
  progress.hidden = !on;
  form.setAttribute("aria-busy", String(on));
}

function paths() {
  return JSON.stringify(chosen.map(({ name }) => name));
}

// What can be asked about before hundreds of megabytes are on their way. Where this does not work,
// the upload itself asks.
export async function questionBefore() {
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

export function send() {
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
  if (answer.code === "text-in-pixels") askAboutBurnedIn(answer.regions);
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

// Problems in words, above the form and at the files and fields that they are about.
import { chosen, renewNotes } from "./chosen.js";
import { element, form, texts } from "./page.js";

const problem = document.getElementById("upload-problem");

export function showProblem(sentences) {
  const box = problem.querySelector("[data-problem]");
  box.replaceChildren(...sentences.map((sentence) => element("p", "", sentence)));
  problem.hidden = false;
  problem.focus();
}

export function clearProblems() {
  problem.hidden = true;
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  renewNotes();
}

// The keys of `errors` are names of files or of fields; each sentence goes to where it belongs.
export function showErrors(answer) {
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

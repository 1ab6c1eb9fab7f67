// The upload form: what was chosen, what is left out and why, questions before anything is kept,
// progress, and problems in words. Nothing chosen gets lost. Its parts lie in the folder upload.
import { add, addDropped, addFolder, allAdded, courtesyProblem } from "./upload/chosen.js";
import { chosenFiles } from "./upload/files.js";
import { form, input } from "./upload/page.js";
import { clearProblems, showProblem } from "./upload/problems.js";
import { listenToAnswers } from "./upload/questions.js";
import { busy, questionBefore, send } from "./upload/sending.js";

const drop = form.querySelector("[data-drop]");
const folder = form.querySelector("[data-folder]");

async function start() {
  await allAdded();
  const trouble = courtesyProblem();
  if (trouble) showProblem([trouble]);
  else if (!(await questionBefore())) send();
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
  addDropped(event.dataTransfer);
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
listenToAnswers(start);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearProblems();
  start();
});
// Coming back with the browser's Back button: the form must be usable again.
window.addEventListener("pageshow", () => busy(false));

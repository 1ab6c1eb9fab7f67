// What follows when the server has kept the files: the study, or a summary of what became of them.
import { chosen, omitted } from "./chosen.js";
import { showOmitted } from "./omitted.js";
import { counted, element, form, linkTo, texts } from "./page.js";

// Straight to the study, unless there is something to say that stands nowhere else.
export function arrived(answer) {
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
  done.querySelector("[data-done-studies]").replaceChildren(...linksTo(answer.studies));
  form.hidden = true;
  done.hidden = false;
  done.focus();
  window.scrollTo({ top: 0 });
}

function linksTo(studies) {
  const many = studies.length > 1;
  return studies.map((study) => {
    const item = element("li", "", "");
    const words = many ? texts.textEarlier.replace("{code}", study.patient_code) : texts.textOpen;
    const link = linkTo(study.location, words);
    if (!many) link.setAttribute("role", "button");
    item.append(link);
    if (many) item.append(element("bdi", "muted", study.label), element("span", "muted", counted(study.images, "Images")));
    return item;
  });
}

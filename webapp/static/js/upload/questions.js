// Questions before anything is kept: about the code, several patients, and studies known already.
import { button, counted, days, element, form, linkTo, MOST_NAMES, texts } from "./page.js";

const asks = [...form.querySelectorAll("[data-ask]")];
const burnedIn = form.querySelector("[data-question]");

function answer(name, value) {
  form.elements.namedItem(name).value = value;
}

// What was decided was decided about these files and this code.
export function forgetAnswers() {
  answer("split", "ask");
  answer("known", "ask");
  burnedIn.hidden = true;
  closeAsks();
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

export function askAboutCode(text) {
  openAsk("code", { text });
}

export function askAboutPatients(groups, { title, text, mayKeep }) {
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

export function askAboutKnown({ detail, known, files, fresh, may_add: mayAdd }) {
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

export function askAboutConflict({ detail, earlier_code: code, page }) {
  const item = element("li", "", "");
  item.append(linkTo(page, texts.textEarlier.replace("{code}", code)));
  openAsk("conflict", { text: detail, items: [item], fill: { code } });
  asks.find((one) => one.dataset.ask === "conflict").dataset.code = code;
}

// `onAnswer()` is called once an answer stands in the form.
export function listenToAnswers(onAnswer) {
  for (const choice of burnedIn.querySelectorAll("[data-answer]")) {
    choice.addEventListener("click", () => {
      answer("burned_in", choice.dataset.answer);
      burnedIn.hidden = true;
      onAnswer();
    });
  }
  for (const choice of form.querySelectorAll("[data-choice]")) {
    choice.addEventListener("click", () => {
      const [name, value] = choice.dataset.choice.split("=");
      if (name === "patient_code") answer(name, choice.closest("[data-ask]").dataset.code);
      else answer(name, value);
      closeAsks();
      onAnswer();
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
}

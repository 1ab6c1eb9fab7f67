// Rules for what htmx exchanges: no polling while hidden, no swap without news, errors in words.
import { showTimes } from "./times.js";

const lastAnswer = new Map(); // id of a polled fragment -> the text that is on the page
let announced = "";

function announce(element) {
  const text = element?.dataset?.announce;
  if (!text || text === announced) return;
  if (announced) document.getElementById("announcer").textContent = text;
  announced = text;
}

function showTrouble(text) {
  const box = document.getElementById("trouble");
  if (!text) {
    box.hidden = true;
    return;
  }
  if (!box.hidden && box.textContent === text) return;
  box.textContent = text;
  box.hidden = false;
}

function messageIn(page) {
  const found = new DOMParser().parseFromString(page, "text/html");
  return found.querySelector("[data-error-message]")?.textContent.trim();
}

function beforeSwap(event) {
  const { xhr, target } = event.detail;
  const isFragment = xhr.responseText.includes("data-fragment");
  if (xhr.status >= 400) {
    // A form that comes back with its errors is a fragment; everything else is a message.
    event.detail.shouldSwap = isFragment;
    event.detail.isError = !isFragment;
    return;
  }
  showTrouble("");
  if (target?.hasAttribute?.("data-poll")) {
    if (lastAnswer.get(target.id) === xhr.responseText) event.detail.shouldSwap = false;
    lastAnswer.set(target.id, xhr.responseText);
  }
}

function refresh() {
  for (const element of document.querySelectorAll("[data-poll]")) window.htmx.trigger(element, "refresh");
}

export function startLive() {
  const { body } = document;
  const trouble = document.getElementById("trouble").dataset;
  announce(document.querySelector("[data-announce]"));
  body.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.elt.hasAttribute("data-poll")) event.preventDefault();
  });
  body.addEventListener("htmx:beforeSwap", beforeSwap);
  body.addEventListener("htmx:afterSwap", (event) => {
    const now = document.getElementById(event.detail.target.id) || event.detail.elt;
    showTimes(now);
    announce(now);
  });
  body.addEventListener("htmx:responseError", (event) => {
    showTrouble(messageIn(event.detail.xhr.responseText) || trouble.failed);
  });
  body.addEventListener("htmx:sendError", () => showTrouble(trouble.offline));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
}

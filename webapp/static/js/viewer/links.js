// What elsewhere in the page names the slice on show: links, thumbnails, the bar to its result.
import { setCurrent } from "./page.js";
import { state } from "./state.js";

const jump = document.querySelector("[data-jump]"); // leads a phone's reader to the result and back

export function showLinks() {
  for (const each of document.querySelectorAll("[data-go]")) {
    setCurrent(each, Number(each.dataset.go) === state.main.slice.position);
  }
  showChosenThumbnail();
}

// By hand: scrollIntoView would scroll the page as well.
function showChosenThumbnail() {
  const strip = document.querySelector("[data-thumbs]");
  const chosen = strip?.querySelector("[aria-current]");
  if (!chosen) return;
  const there = chosen.getBoundingClientRect();
  const box = strip.getBoundingClientRect();
  strip.scrollLeft += there.left + there.width / 2 - (box.left + box.width / 2);
}

export function showJump() {
  const { slice } = state.main;
  if (!slice.label) return; // until there is an answer, the study's state stands there
  jump.querySelector("[data-jump-label]").textContent = slice.label;
  jump.querySelector("[data-jump-chance]").textContent = state.main.chance(slice);
}

export function showJumpLinks() {
  const assessment = jump.querySelector("[data-jump-assessment]");
  assessment.hidden = !document.querySelector(assessment.hash);
}

// On a phone the result lies far below the slice that a link in it names.
export function bringIntoSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  const middle = (top + bottom) / 2;
  if (middle < 0 || middle > window.innerHeight) element.scrollIntoView({ block: "center" });
}

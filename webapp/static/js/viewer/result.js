// The result beside the slice: it follows the slice, and the viewer learns that it has come.
import { bringIntoSight, showJumpLinks } from "./links.js";
import { news } from "./news.js";
import { viewer } from "./page.js";
import { goTo } from "./series.js";
import { state } from "./state.js";

// Before the model's answer is shown the page has none, and no address of it.
const result = () => document.getElementById("result");

// The viewer rests at a slice: address, form and result follow it.
export function follow() {
  const { position } = state.main.slice;
  const address = new URL(location.href);
  if (state.touched) address.searchParams.set("image", position);
  history.replaceState(history.state, "", address);
  state.assessment.follow();
  if (!viewer.dataset.resultUrl || result().dataset.image === String(position)) return;
  const url = `${viewer.dataset.resultUrl}?image=${position}`;
  window.htmx.ajax("GET", url, { target: "#result", swap: "outerHTML" });
}

export function watchResult() {
  const { body } = document;
  body.addEventListener("click", followLink);
  if (!result()) return;
  let wasPolling = result().hasAttribute("data-poll");
  body.addEventListener("htmx:beforeSwap", refuseOutdated);
  body.addEventListener("htmx:afterSwap", () => {
    showJumpLinks();
    const polling = result().hasAttribute("data-poll");
    if (wasPolling && !polling) finished();
    wasPolling = polling;
  });
}

// An answer about a slice that was left meanwhile must not replace a newer one.
function refuseOutdated(event) {
  const { target, xhr } = event.detail;
  if (target?.id !== "result" || xhr.status >= 400) return;
  const about = new URL(xhr.responseURL, location.href).searchParams.get("image");
  const behind = about !== null && Number(about) !== state.main.slice.position;
  if (behind && result().dataset.image !== about) event.detail.shouldSwap = false;
}

function followLink(event) {
  const there = event.target.closest("[data-go]");
  if (!there || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  state.touched = true;
  goTo(Number(there.dataset.go));
  bringIntoSight(state.main.stage);
}

// The answer has come: its strip, its heatmaps, and what else the page shows of a finished study.
async function finished() {
  await news();
  window.htmx.trigger(document.body, "sulcus:finished");
  const { key } = result().dataset;
  if (!state.touched && key !== undefined) goTo(Number(key));
  state.assessment.follow();
}

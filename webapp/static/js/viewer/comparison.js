// Another study of the same patient, in a pane beside this one.
import { alignment, matchingIndex } from "./geometry.js";
import { warm } from "./heatmap.js";
import { addressOf, ask, control, viewer } from "./page.js";
import { link, newPane, setActive } from "./panes.js";
import { state } from "./state.js";

export async function compare() {
  const { value, selectedOptions } = control("compare");
  const address = new URL(location.href);
  if (value) address.searchParams.set("compare", value);
  else address.searchParams.delete("compare");
  history.replaceState(history.state, "", address);
  state.second?.element.remove();
  state.second = null;
  setActive(state.main);
  viewer.querySelector("[data-panes]").classList.toggle("two", Boolean(value));
  viewer.querySelector("[data-linked]").hidden = !value;
  if (!value) return;
  let other = null;
  try {
    other = await ask(addressOf("anyStackUrl", value));
  } catch {
    control("compare").value = "";
    compare();
    return;
  }
  if (control("compare").value === value) showSecond(other, selectedOptions[0].textContent.trim());
}

function showSecond(other, title) {
  const { main } = state;
  const copy = viewer.querySelector("[data-second-pane]").content.cloneNode(true);
  const element = copy.querySelector("[data-pane]");
  element.querySelector("[data-pane-title]").textContent = title;
  viewer.querySelector("[data-panes]").append(copy);
  const second = newPane(element);
  state.second = second;
  second.setHeat(warm());
  second.invert(state.inverted);
  const series = likeliestMatch(other.series);
  second.take(series, matchingIndex(main.series, main.index, series));
}

// The series that lies as the one on show does; of those the longest.
function likeliestMatch(all) {
  const rank = (series) => Math.abs(alignment(state.main.series, series)) * 1e6 + series.slices.length;
  return all.reduce((best, series) => (rank(series) > rank(best) ? series : best));
}

// The other pane goes to the matching slice as soon as linking is wanted.
export function linkNow() {
  if (state.second && control("linked").checked) link(state.main, state.second);
}

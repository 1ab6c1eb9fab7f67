// What the modules of the viewer share of the page: its element, controls and words, and questions
// to the server.
export const viewer = document.querySelector("[data-viewer]");
export const control = (name) => viewer.querySelector(`[data-set="${name}"]`);
export const button = (name) => viewer.querySelector(`[data-do="${name}"]`);
export const words = viewer && JSON.parse(viewer.dataset.words);
export const language = document.documentElement.lang || "en-GB";

export const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// An address of the page with the id of a study or series in its place.
export function addressOf(kind, id) {
  return viewer.dataset[kind].replace(/0{8}(-0{4}){3}-0{12}/, id);
}

export async function ask(url) {
  const answer = await fetch(url, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`the slices could not be asked for: ${answer.status}`);
  return answer.json();
}

export function setCurrent(link, on) {
  if (on) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

// What the server tells about slices after the page has come: they become ready, and get answers.
import { ask, viewer, wait } from "./page.js";
import { takeStack } from "./series.js";
import { state } from "./state.js";
import { prepareGreysOnce } from "./windowing.js";

const ASK_AFTER = 2000; // milliseconds between questions for slices while they are being made

// The first answer. Until it comes, the slice that came with the page stays.
export async function askForStack() {
  while (!state.stack) {
    try {
      state.stack = await ask(viewer.dataset.stackUrl);
    } catch {
      await wait(ASK_AFTER);
    }
  }
}

export async function news() {
  try {
    state.stack = await ask(viewer.dataset.stackUrl);
  } catch {
    return; // The next question may be answered.
  }
  takeStack(state.main.slice.position);
  showThumbnails();
  prepareGreysOnce();
}

function showThumbnails() {
  const { main, stack } = state;
  for (const waiting of document.querySelectorAll("[data-thumb-of]")) {
    const slice = stack.series.flatMap((one) => one.slices).find((one) => one.id === waiting.dataset.thumbOf);
    if (!slice?.ready) continue;
    const picture = new Image(72, 72);
    picture.alt = waiting.textContent.trim();
    picture.src = main.address("pixels", slice);
    waiting.replaceWith(picture);
  }
}

export async function waitForNews() {
  while (!["done", "failed", "rejected"].includes(state.stack.status)) {
    await wait(ASK_AFTER);
    if (!document.hidden) await news();
  }
}

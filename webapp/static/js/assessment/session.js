// The reader's session while an assessment is open: it may end, and begin anew in another tab.
import { panel } from "./panel.js";

const ASK_AGAIN = 5000; // milliseconds between questions whether the reader has signed in again

// Says so in the panel, and calls `onReturn()` once the reader has signed in again.
export function tellSignedOut(onReturn) {
  const notice = panel.find("[data-signed-out]");
  if (!notice || !notice.hidden) return;
  notice.hidden = false;
  document.getElementById("trouble").hidden = true;
  const again = setInterval(async () => {
    if (document.hidden || !(await renewToken())) return;
    clearInterval(again);
    const now = panel.find("[data-signed-out]");
    if (now) now.hidden = true;
    onReturn();
  }, ASK_AGAIN);
}

// A token of the session as it is now; false where nobody, or somebody else, has signed in.
export async function renewToken() {
  try {
    const answer = await fetch(panel.address(panel.position), { headers: { "HX-Request": "true" } });
    if (!answer.ok) return false;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const token = page.querySelector('[name="csrf_token"]')?.value;
    const reader = page.getElementById("feedback")?.dataset.reader;
    if (!token || reader !== panel.data.reader) return false;
    for (const field of document.querySelectorAll('[name="csrf_token"]')) field.value = token;
    return true;
  } catch {
    return false;
  }
}

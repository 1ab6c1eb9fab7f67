// What was begun is kept: in this tab at once, and on the server soon after.
import { panel } from "./panel.js";
import { renewToken, tellSignedOut } from "./session.js";

const KEEP_AFTER = 800; // milliseconds after the last letter until the draft is sent

export class Draft {
  constructor() {
    this.begun = false;
    this.due = 0; // the timer until it is sent
    this.pushing = Promise.resolve(); // what is on its way
  }

  begin() {
    this.begun = true;
    this.remember();
    this.hold();
    this.due = setTimeout(() => this.push(), KEEP_AFTER);
  }

  // ---- In this tab ---------------------------------------------------------------------------

  get storageKey() {
    return `sulcus.assessment.${panel.data.reader}.${panel.data.study}`;
  }

  // Until the server has it: the session may have ended.
  remember() {
    const fields = Object.fromEntries(new FormData(panel.form));
    delete fields.csrf_token;
    this.text = JSON.stringify({ position: panel.position, fields });
    try {
      sessionStorage.setItem(this.storageKey, this.text);
    } catch {
      // Storage is switched off: the form itself and the server's draft have to do.
    }
  }

  // {position, fields}, or null. It was never confirmed by the server, so it is newer than any draft.
  remembered() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(this.storageKey) || "null");
      return kept?.fields ? kept : null;
    } catch {
      return null;
    }
  }

  forget() {
    this.hold();
    this.due = 0;
    try {
      sessionStorage.removeItem(this.storageKey);
    } catch {
      // Nothing was kept.
    }
  }

  // ---- On the server -------------------------------------------------------------------------

  // Nothing is sent by itself until more is written.
  hold() {
    clearTimeout(this.due);
  }

  push() {
    this.hold();
    this.due = 0;
    if (!this.begun || !panel.form) return this.pushing;
    this.pushing = this.pushing.then(() => this.send()).catch(() => this.tell("local"));
    return this.pushing;
  }

  pushIfDue() {
    if (this.due) this.push();
  }

  async send() {
    if (!this.begun || !panel.form) return;
    const { text } = this;
    let answer = await this.post();
    if (answer.status === 400 && (await renewToken())) answer = await this.post();
    if (answer.status !== 204) {
      this.tell("local");
      if (answer.status === 400 || answer.status === 401) this.signedOut();
      return;
    }
    this.tell("kept");
    if (text === this.text) this.forget();
  }

  post() {
    const body = new URLSearchParams(new FormData(panel.form));
    // Longer bodies than this may not outlive the page.
    const keepalive = body.toString().length < 60_000;
    return fetch(panel.data.draftUrl, { method: "POST", body, keepalive, redirect: "manual" });
  }

  signedOut() {
    tellSignedOut(() => this.push());
  }

  tell(state) {
    const place = panel.find("[data-draft-state]");
    if (place) place.textContent = place.dataset[state];
  }
}

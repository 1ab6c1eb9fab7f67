// The assessment beside the viewer: it stays with its slice, asks before it is saved for a slice
// that is not on the screen, and keeps what was begun, here and on the server.
import { Draft } from "./assessment/draft.js";
import { Marking } from "./assessment/marking.js";
import { beside, panel } from "./assessment/panel.js";
import { renewToken } from "./assessment/session.js";
import { fill } from "./viewer/captions.js";

const MOVE_ON_AFTER = 2500; // milliseconds that "Saved" is seen before the form follows the viewer

export class Assessment {
  // `goTo(position)` and `setTool(name)` are the viewer's; `tool()` is its chosen tool.
  constructor({ goTo, setTool, tool, bringIntoSight }) {
    Object.assign(this, { goTo, bringIntoSight });
    this.shown = null; // the slice on the screen
    this.draft = new Draft();
    this.marking = new Marking(this, { setTool, tool, bringIntoSight });
    this.agreed = false; // the reader has said that the slice need not be on the screen
    this.listen();
  }

  start(pane) {
    this.marking.start(pane);
    this.shown = pane.slice;
    this.adopt();
    this.recall();
  }

  get isAway() {
    return Boolean(this.draft.begun && this.shown && panel.position !== this.shown.position);
  }

  // ---- Which slice ---------------------------------------------------------------------------

  // The viewer has gone to another slice.
  onSlice(slice) {
    if (slice.id !== this.shown?.id) this.marking.leave();
    this.shown = slice;
    this.showAway();
  }

  // The viewer rests: what was not begun follows it.
  follow() {
    if (this.isAway) this.announceAway();
    if (this.draft.begun || !this.shown || panel.position === this.shown.position) return;
    if ("stays" in panel.data) return; // the reading room asks for this slice
    this.load(this.shown.position);
  }

  // Once a stay: whoever listens knows then that the form stays behind.
  announceAway() {
    if (this.announced === panel.position) return;
    this.announced = panel.position;
    document.getElementById("announcer").textContent = beside.querySelector("[data-away-text]").textContent;
  }

  load(position) {
    window.htmx.ajax("GET", panel.address(position), { target: "#feedback", swap: "outerHTML" });
  }

  back() {
    this.goTo(panel.position);
    this.bringIntoSight();
  }

  showAway() {
    const away = this.isAway;
    if (!away) this.announced = null;
    const here = beside.querySelector("[data-away-here]");
    const numbers = { begun: Number(panel.data.number), shown: this.shown ? this.shown.position + 1 : "" };
    const text = here.querySelector("[data-away-text]");
    text.textContent = away ? fill(text.dataset.awayText, numbers) : "";
    const back = here.querySelector("[data-away-back]");
    back.textContent = fill(back.dataset.text, numbers);
    here.hidden = !away;
    const inside = panel.find("[data-away]");
    if (inside) inside.hidden = !away;
    this.marking.showTool(away);
  }

  // ---- What was begun ------------------------------------------------------------------------

  // A panel has come, with the page or in place of an earlier one.
  adopt() {
    const { form } = panel;
    this.draft.begun = Boolean(form && "begun" in panel.data);
    this.agreed = false;
    this.marking.adopt();
    if (form) this.showChoices();
    this.showAway();
    this.marking.show();
  }

  begin() {
    this.draft.begin();
    this.showAway();
  }

  // What this tab remembers goes into the form of its slice.
  recall() {
    if (!panel.form) return;
    const kept = this.draft.remembered();
    if (!kept) return;
    if (kept.fields.image_id === panel.data.imageId) this.fillIn(kept.fields);
    else if (!this.draft.begun) this.goTo(kept.position); // its form comes, and is filled then
    this.recalling = !this.draft.begun;
  }

  fillIn(fields) {
    this.recalling = false;
    for (const [name, value] of Object.entries(fields)) {
      const found = panel.field(name);
      if (found && name !== "reader") found.value = value;
    }
    this.marking.showKept();
    this.showChoices();
    this.marking.show();
    this.begin();
  }

  drop() {
    this.draft.hold();
    this.draft.pushing.then(() => {
      const url = panel.form.dataset.discardUrl;
      const stays = "stays" in panel.data;
      const values = {
        csrf_token: panel.field("csrf_token").value,
        image: stays ? panel.position : this.shown.position,
        reading: panel.field("reading").value,
      };
      window.htmx.ajax("POST", url, { target: "#feedback", swap: "outerHTML", values });
    });
  }

  // Choices that depend on others.
  showChoices() {
    const scope = new FormData(panel.form).get("scope") || "image";
    const { sliceLabel, studyLabel } = panel.data;
    const own = { image: sliceLabel, study: studyLabel, range: null }[scope];
    const list = panel.field("label");
    if (!list.options) return; // before the model's answer is shown: all of them are offered
    for (const option of list.options) option.hidden = Boolean(own) && option.value === own;
    if (own && list.value === own) list.value = "";
  }

  // ---- Saving --------------------------------------------------------------------------------

  // Of one slice while another is on the screen: ask. A draft on its way must not arrive later.
  async onConfirm(event) {
    event.preventDefault();
    this.draft.hold();
    const issue = event.detail.issueRequest;
    const ofSlice = new FormData(panel.form).get("scope") !== "study" && !panel.form.querySelector("#scope-range:checked");
    if (ofSlice && this.shown && panel.position !== this.shown.position && !this.agreed) {
      this.ask(issue);
      return;
    }
    await this.draft.pushing;
    issue(true);
  }

  ask(issue) {
    const dialog = panel.find("[data-ask]");
    dialog.querySelector("[data-ask-now]").textContent = beside.querySelector("[data-away-text]").dataset.ask
      .replace("{shown}", this.shown.position + 1); // prettier-ignore
    const choices = {
      save: async () => {
        this.agreed = true;
        await this.draft.pushing;
        issue(true);
      },
      back: () => this.back(),
      drop: () => this.drop(),
    };
    for (const [name, act] of Object.entries(choices)) {
      dialog.querySelector(`[data-ask-${name}]`).onclick = () => {
        dialog.close();
        act();
      };
    }
    dialog.showModal();
  }

  // ---- The region ----------------------------------------------------------------------------

  startRegion(name) {
    this.marking.begin(name);
  }

  // From the form: in its own slice, which may have left the screen since it was saved.
  startHere() {
    if (panel.position !== this.shown?.position) this.back();
    this.marking.begin();
  }

  onTool() {
    this.marking.onTool();
  }

  // ---- Listening -----------------------------------------------------------------------------

  listen() {
    const { body } = document;
    const isForm = (element) => element?.matches?.("[data-assess]");
    for (const name of ["input", "change"]) {
      body.addEventListener(name, (event) => {
        if (!event.target.closest("[data-assess]")) return;
        this.showChoices();
        this.begin();
      });
    }
    body.addEventListener("click", (event) => this.onClick(event));
    body.addEventListener("htmx:confirm", (event) => {
      if (isForm(event.detail.elt)) this.onConfirm(event);
    });
    body.addEventListener("htmx:beforeSwap", (event) => {
      const { target, xhr, requestConfig } = event.detail;
      if (target?.id !== "feedback" || requestConfig?.verb !== "get" || xhr.status >= 400) return;
      // An answer about a slice that was left meanwhile, or that comes when another was begun.
      const about = new URL(xhr.responseURL, location.href).searchParams.get("image");
      if (this.draft.begun || Number(about) !== this.shown?.position) event.detail.shouldSwap = false;
    });
    body.addEventListener("htmx:afterSwap", (event) => {
      if (event.detail.target.id === "feedback") this.onSwapped(event.detail);
    });
    body.addEventListener("htmx:beforeOnLoad", (event) => {
      // Saved, and on to another page: nothing of it is to be recalled.
      const { xhr } = event.detail;
      if (isForm(event.detail.elt) && xhr.status < 400 && xhr.getResponseHeader("HX-Redirect")) {
        this.draft.forget();
        this.draft.begun = false;
      }
    });
    body.addEventListener("htmx:beforeOnLoad", (event) => {
      if (event.detail.xhr.status !== 401 || !this.draft.begun) return;
      event.preventDefault(); // it would take the page to the sign-in, and what was written with it
      this.draft.signedOut();
    });
    body.addEventListener("htmx:responseError", async (event) => {
      if (!isForm(event.detail.elt)) return;
      this.agreed = false;
      if (!(await renewToken())) this.draft.signedOut();
    });
    document.addEventListener("visibilitychange", () => document.hidden && this.draft.pushIfDue());
    window.addEventListener("pagehide", () => this.draft.pushIfDue());
    for (const form of document.querySelectorAll('form[action$="/sign-out"]')) {
      form.addEventListener("submit", (event) => this.onSignOut(event, form));
    }
  }

  onSwapped({ xhr, requestConfig }) {
    const posted = requestConfig?.verb === "post";
    if (posted && xhr.status < 400) this.draft.forget();
    this.adopt();
    if (this.recalling) this.recall();
    else if (posted && this.draft.begun) this.begin(); // refused: it goes on being kept
    clearTimeout(this.moveOn);
    if ("saved" in panel.data) this.moveOn = setTimeout(() => this.follow(), MOVE_ON_AFTER);
    else if (!this.draft.begun) this.follow();
  }

  onClick(event) {
    const at = (name) => event.target.closest(`[${name}]`);
    if (at("data-away-back")) this.back();
    else if (at("data-away-drop")) this.drop();
    else if (at("data-region-start")) this.startHere();
    else this.marking.onClick(at);
  }

  // Whoever signs in next in this tab finds nothing here; the draft waits on the server.
  async onSignOut(event, form) {
    if (!this.draft.begun || form.dataset.ready) return;
    event.preventDefault();
    form.dataset.ready = "";
    await this.draft.push();
    this.draft.forget();
    form.submit();
  }
}

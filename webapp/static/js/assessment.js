// The assessment beside the viewer: it stays with its slice, asks before it is saved for a slice
// that is not on the screen, and keeps what was begun, here and on the server.
import { fill } from "./viewer/captions.js";
import { REGION_TOOLS, RegionTool } from "./viewer/region.js";

const KEEP_AFTER = 800; // milliseconds after the last letter until the draft is sent
const MOVE_ON_AFTER = 2500; // milliseconds that "Saved" is seen before the form follows the viewer
const ASK_AGAIN = 5000; // milliseconds between questions whether the reader has signed in again

export class Assessment {
  // `goTo(position)` and `setTool(name)` are the viewer's; `tool()` is its chosen tool.
  constructor({ goTo, setTool, tool, bringIntoSight }) {
    Object.assign(this, { goTo, setTool, tool, bringIntoSight });
    this.beside = document.querySelector("[data-beside-viewer]");
    this.shown = null; // the slice on the screen
    this.begun = false;
    this.pushing = Promise.resolve();
    this.waitingRegion = null; // drawn before the form of its slice was there
    this.agreed = false; // the reader has said that the slice need not be on the screen
    this.listen();
  }

  start(pane) {
    this.pane = pane;
    this.region = new RegionTool(pane, {
      tool: this.tool,
      mayDraw: () => this.mayDraw(),
      onChange: (points) => this.onRegion(points),
    });
    this.shown = pane.slice;
    this.adopt();
    this.recall();
  }

  get panel() {
    return document.getElementById("feedback");
  }

  get form() {
    return this.panel.querySelector("[data-assess]");
  }

  get position() {
    return this.form ? Number(this.panel.dataset.image) : null;
  }

  get isAway() {
    return Boolean(this.begun && this.shown && this.position !== this.shown.position);
  }

  field(name) {
    return this.form?.elements.namedItem(name);
  }

  // ---- Which slice ---------------------------------------------------------------------------

  // The viewer has gone to another slice.
  onSlice(slice) {
    if (slice.id !== this.shown?.id) this.waitingRegion = null;
    this.shown = slice;
    this.showAway();
  }

  // The viewer rests: what was not begun follows it.
  follow() {
    if (this.isAway) this.announceAway();
    if (this.begun || !this.shown || this.position === this.shown.position) return;
    this.load(this.shown.position);
  }

  // Once a stay: whoever listens knows then that the form stays behind.
  announceAway() {
    if (this.announced === this.position) return;
    this.announced = this.position;
    document.getElementById("announcer").textContent = this.beside.querySelector("[data-away-text]").textContent;
  }

  load(position) {
    const url = `${this.beside.dataset.panelUrl}?image=${position}`;
    window.htmx.ajax("GET", url, { target: "#feedback", swap: "outerHTML" });
  }

  back() {
    this.goTo(this.position);
    this.bringIntoSight();
  }

  showAway() {
    const away = this.isAway;
    if (!away) this.announced = null;
    const here = this.beside.querySelector("[data-away-here]");
    const numbers = { begun: Number(this.panel.dataset.number), shown: this.shown ? this.shown.position + 1 : "" };
    const text = here.querySelector("[data-away-text]");
    text.textContent = away ? fill(text.dataset.awayText, numbers) : "";
    const back = here.querySelector("[data-away-back]");
    back.textContent = fill(back.dataset.text, numbers);
    here.hidden = !away;
    const inside = this.panel.querySelector("[data-away]");
    if (inside) inside.hidden = !away;
    this.showTool();
  }

  // ---- What was begun ------------------------------------------------------------------------

  // A panel has come, with the page or in place of an earlier one.
  adopt() {
    const { form } = this;
    this.begun = Boolean(form && "begun" in this.panel.dataset);
    this.agreed = false;
    const { imageId } = this.panel.dataset;
    if (form && this.waitingRegion?.imageId === imageId) {
      this.region.show(null, imageId);
      this.region.set(this.waitingRegion.points);
      this.waitingRegion = null;
    } else {
      this.region?.show(form ? pointsIn(this.field("region").value) : null, imageId ?? null);
    }
    if (form) this.showChoices();
    this.showAway();
    this.showRegion();
  }

  begin() {
    this.begun = true;
    this.remember();
    this.showAway();
    clearTimeout(this.due);
    this.due = setTimeout(() => this.push(), KEEP_AFTER);
  }

  get storageKey() {
    return `sulcus.assessment.${this.panel.dataset.reader}.${this.panel.dataset.study}`;
  }

  // In this tab, until the server has it: the session may have ended.
  remember() {
    const fields = Object.fromEntries(new FormData(this.form));
    delete fields.csrf_token;
    this.text = JSON.stringify({ position: this.position, fields });
    try {
      sessionStorage.setItem(this.storageKey, this.text);
    } catch {
      // Storage is switched off: the form itself and the server's draft have to do.
    }
  }

  forget() {
    clearTimeout(this.due);
    this.due = 0;
    try {
      sessionStorage.removeItem(this.storageKey);
    } catch {
      // Nothing was kept.
    }
  }

  // What this tab remembers was never confirmed by the server, so it is newer than any draft.
  recall() {
    if (!this.form) return;
    let kept = null;
    try {
      kept = JSON.parse(sessionStorage.getItem(this.storageKey) || "null");
    } catch {
      return;
    }
    if (!kept?.fields) return;
    if (kept.fields.image_id === this.panel.dataset.imageId) this.fillIn(kept.fields);
    else if (!this.begun) this.goTo(kept.position); // its form comes, and is filled then
    this.recalling = !this.begun;
  }

  fillIn(fields) {
    this.recalling = false;
    for (const [name, value] of Object.entries(fields)) {
      const found = this.field(name);
      if (found && name !== "reader") found.value = value;
    }
    this.region.show(pointsIn(this.field("region").value), this.panel.dataset.imageId);
    this.showChoices();
    this.showRegion();
    this.begin();
  }

  push() {
    clearTimeout(this.due);
    this.due = 0;
    if (!this.begun || !this.form) return this.pushing;
    this.pushing = this.pushing.then(() => this.send()).catch(() => this.tellDraft("local"));
    return this.pushing;
  }

  async send() {
    if (!this.begun || !this.form) return;
    const { text } = this;
    let answer = await this.post(this.panel.dataset.draftUrl);
    if (answer.status === 400 && (await this.renewToken())) answer = await this.post(this.panel.dataset.draftUrl);
    if (answer.status !== 204) {
      this.tellDraft("local");
      if (answer.status === 400 || answer.status === 401) this.signedOut();
      return;
    }
    this.tellDraft("kept");
    if (text === this.text) this.forget();
  }

  post(url) {
    const body = new URLSearchParams(new FormData(this.form));
    // Longer bodies than this may not outlive the page.
    const keepalive = body.toString().length < 60_000;
    return fetch(url, { method: "POST", body, keepalive, redirect: "manual" });
  }

  tellDraft(state) {
    const place = this.panel.querySelector("[data-draft-state]");
    if (place) place.textContent = place.dataset[state];
  }

  drop() {
    clearTimeout(this.due);
    this.pushing.then(() => {
      const url = this.panel.querySelector("[data-assess]").dataset.discardUrl;
      const values = { csrf_token: this.field("csrf_token").value, image: this.shown.position };
      window.htmx.ajax("POST", url, { target: "#feedback", swap: "outerHTML", values });
    });
  }

  // ---- The session ---------------------------------------------------------------------------

  signedOut() {
    const notice = this.panel.querySelector("[data-signed-out]");
    if (!notice || !notice.hidden) return;
    notice.hidden = false;
    document.getElementById("trouble").hidden = true;
    const again = setInterval(async () => {
      if (document.hidden || !(await this.renewToken())) return;
      clearInterval(again);
      const now = this.panel.querySelector("[data-signed-out]");
      if (now) now.hidden = true;
      this.push();
    }, ASK_AGAIN);
  }

  // A token of the session as it is now; false where nobody, or somebody else, has signed in.
  async renewToken() {
    const url = `${this.beside.dataset.panelUrl}?image=${this.position}`;
    try {
      const answer = await fetch(url, { headers: { "HX-Request": "true" } });
      if (!answer.ok) return false;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const token = page.querySelector('[name="csrf_token"]')?.value;
      const reader = page.getElementById("feedback")?.dataset.reader;
      if (!token || reader !== this.panel.dataset.reader) return false;
      for (const field of document.querySelectorAll('[name="csrf_token"]')) field.value = token;
      return true;
    } catch {
      return false;
    }
  }

  // ---- Saving --------------------------------------------------------------------------------

  // Of one slice while another is on the screen: ask. A draft on its way must not arrive later.
  async onConfirm(event) {
    event.preventDefault();
    clearTimeout(this.due);
    const issue = event.detail.issueRequest;
    const ofSlice = new FormData(this.form).get("scope") !== "study" && !this.form.querySelector("#scope-range:checked");
    if (ofSlice && this.shown && this.position !== this.shown.position && !this.agreed) {
      this.ask(issue);
      return;
    }
    await this.pushing;
    issue(true);
  }

  ask(issue) {
    const dialog = this.panel.querySelector("[data-ask]");
    dialog.querySelector("[data-ask-now]").textContent = this.beside.querySelector("[data-away-text]").dataset.ask
      .replace("{shown}", this.shown.position + 1); // prettier-ignore
    const choices = {
      save: async () => {
        this.agreed = true;
        await this.pushing;
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

  // ---- Choices that depend on others ---------------------------------------------------------

  showChoices() {
    const scope = new FormData(this.form).get("scope") || "image";
    const { sliceLabel, studyLabel } = this.panel.dataset;
    const own = { image: sliceLabel, study: studyLabel, range: null }[scope];
    const list = this.field("label");
    for (const option of list.options) option.hidden = Boolean(own) && option.value === own;
    if (own && list.value === own) list.value = "";
  }

  // ---- The region ----------------------------------------------------------------------------

  get hasForm() {
    return Boolean(this.form);
  }

  mayDraw() {
    if (!this.hasForm) return false;
    const elsewhere = this.isAway;
    this.showTool(elsewhere);
    return !elsewhere;
  }

  onRegion(points) {
    if (this.panel.dataset.imageId !== this.pane.slice.id) {
      this.waitingRegion = { imageId: this.pane.slice.id, points };
      this.load(this.pane.slice.position);
      return;
    }
    this.field("region").value = points ? JSON.stringify(points) : "";
    this.showRegion();
    this.begin();
  }

  showRegion() {
    const bar = this.beside.querySelector("[data-region-bar]");
    bar.querySelector("[data-region-undo]").disabled = !this.region?.canUndo;
    bar.querySelector("[data-region-clear]").disabled = !this.region?.points;
    const row = this.panel.querySelector("[data-region-row]");
    if (!row) return;
    const marked = Boolean(this.field("region").value);
    row.querySelector("[data-region-none]").hidden = marked;
    row.querySelector("[data-region-some]").hidden = !marked;
    row.querySelector("[data-region-remove]").hidden = !marked;
    const start = row.querySelector("[data-region-start]");
    start.dataset.first ||= start.textContent;
    start.textContent = marked ? start.dataset.again : start.dataset.first;
  }

  startRegion(name = "box") {
    if (!this.hasForm) return;
    if (this.isAway) this.back();
    this.setTool(name);
    this.bringIntoSight();
    this.pane.stage.focus({ preventScroll: true });
  }

  // From the form: in its own slice, which may have left the screen since it was saved.
  startHere() {
    if (this.position !== this.shown?.position) this.back();
    this.startRegion();
  }

  onTool() {
    if (!REGION_TOOLS.includes(this.tool())) this.region?.leaveKeys();
    this.showTool();
  }

  showTool(elsewhere = this.isAway) {
    const bar = this.beside.querySelector("[data-region-bar]");
    const chosen = this.tool();
    bar.hidden = !REGION_TOOLS.includes(chosen);
    if (bar.hidden) return;
    for (const each of bar.querySelectorAll("[data-region-tool]")) {
      each.setAttribute("aria-pressed", String(each.dataset.regionTool === chosen));
    }
    const hint = bar.querySelector("[data-region-hint]");
    const keys = window.matchMedia("(hover: none)").matches ? "" : ` ${hint.dataset[`${chosen}Keys`]}`;
    hint.textContent = elsewhere ? hint.dataset.elsewhere : hint.dataset[chosen] + keys;
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
      if (this.begun || Number(about) !== this.shown?.position) event.detail.shouldSwap = false;
    });
    body.addEventListener("htmx:afterSwap", (event) => {
      if (event.detail.target.id === "feedback") this.onSwapped(event.detail);
    });
    body.addEventListener("htmx:beforeOnLoad", (event) => {
      if (event.detail.xhr.status !== 401 || !this.begun) return;
      event.preventDefault(); // it would take the page to the sign-in, and what was written with it
      this.signedOut();
    });
    body.addEventListener("htmx:responseError", async (event) => {
      if (!isForm(event.detail.elt)) return;
      this.agreed = false;
      if (!(await this.renewToken())) this.signedOut();
    });
    document.addEventListener("visibilitychange", () => document.hidden && this.due && this.push());
    window.addEventListener("pagehide", () => this.due && this.push());
    for (const form of document.querySelectorAll('form[action$="/sign-out"]')) {
      form.addEventListener("submit", (event) => this.onSignOut(event, form));
    }
  }

  onSwapped({ xhr, requestConfig }) {
    const posted = requestConfig?.verb === "post";
    if (posted && xhr.status < 400) this.forget();
    this.adopt();
    if (this.recalling) this.recall();
    else if (posted && this.begun) this.begin(); // refused: it goes on being kept
    clearTimeout(this.moveOn);
    if ("saved" in this.panel.dataset) this.moveOn = setTimeout(() => this.follow(), MOVE_ON_AFTER);
    else if (!this.begun) this.follow();
  }

  onClick(event) {
    const at = (name) => event.target.closest(`[${name}]`);
    if (at("data-away-back")) this.back();
    else if (at("data-away-drop")) this.drop();
    else if (at("data-region-start")) this.startHere();
    else if (at("data-region-remove")) this.region.clear();
    else if (at("data-region-tool")) this.setTool(at("data-region-tool").dataset.regionTool);
    else if (at("data-region-undo")) this.region.undo();
    else if (at("data-region-clear")) this.region.clear();
    else if (at("data-region-done")) this.endRegion();
  }

  endRegion() {
    this.setTool("move");
    this.panel.querySelector("[data-region-start]")?.focus({ preventScroll: true });
    this.panel.querySelector("[data-region-row]")?.scrollIntoView({ block: "nearest" });
  }

  // Whoever signs in next in this tab finds nothing here; the draft waits on the server.
  async onSignOut(event, form) {
    if (!this.begun || form.dataset.ready) return;
    event.preventDefault();
    form.dataset.ready = "";
    await this.push();
    this.forget();
    form.submit();
  }
}

function pointsIn(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

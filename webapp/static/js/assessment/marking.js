// The region of an assessment: drawn in the viewer, kept in the form, with a bar of its own tools.
import { REGION_TOOLS, RegionTool } from "../viewer/region.js";
import { beside, panel } from "./panel.js";

export class Marking {
  // `assessment` is the form's; `setTool(name)` and `tool()` are the viewer's.
  constructor(assessment, { setTool, tool, bringIntoSight }) {
    Object.assign(this, { assessment, setTool, tool, bringIntoSight });
    this.waiting = null; // drawn before the form of its slice was there
    this.drawing = null; // the tool in the pane, once there is one
  }

  start(pane) {
    this.pane = pane;
    this.drawing = new RegionTool(pane, {
      tool: this.tool,
      mayDraw: () => this.mayDraw(),
      onChange: (points) => this.onRegion(points),
    });
  }

  // The viewer has gone to another slice.
  leave() {
    this.waiting = null;
  }

  // A panel has come: its region is shown, or the one that waited for it is put into it.
  adopt() {
    const { imageId } = panel.data;
    if (panel.form && this.waiting?.imageId === imageId) {
      this.drawing.show(null, imageId);
      this.drawing.set(this.waiting.points);
      this.waiting = null;
    } else {
      this.drawing?.show(panel.form ? pointsIn(panel.field("region").value) : null, imageId ?? null);
    }
  }

  // The form's field has been filled.
  showKept() {
    this.drawing.show(pointsIn(panel.field("region").value), panel.data.imageId);
  }

  mayDraw() {
    if (!panel.form) return false;
    const elsewhere = this.assessment.isAway;
    this.showTool(elsewhere);
    return !elsewhere;
  }

  onRegion(points) {
    const { slice } = this.pane;
    if (panel.data.imageId !== slice.id) {
      this.waiting = { imageId: slice.id, points };
      this.assessment.load(slice.position);
      return;
    }
    panel.field("region").value = points ? JSON.stringify(points) : "";
    this.show();
    this.assessment.begin();
  }

  show() {
    const bar = beside.querySelector("[data-region-bar]");
    bar.querySelector("[data-region-undo]").disabled = !this.drawing?.canUndo;
    bar.querySelector("[data-region-clear]").disabled = !this.drawing?.points;
    const row = panel.find("[data-region-row]");
    if (!row) return;
    const marked = Boolean(panel.field("region").value);
    row.querySelector("[data-region-none]").hidden = marked;
    row.querySelector("[data-region-some]").hidden = !marked;
    row.querySelector("[data-region-remove]").hidden = !marked;
    const start = row.querySelector("[data-region-start]");
    start.dataset.first ||= start.textContent;
    start.textContent = marked ? start.dataset.again : start.dataset.first;
  }

  begin(name = "box") {
    if (!panel.form) return;
    if (this.assessment.isAway) this.assessment.back();
    this.setTool(name);
    this.bringIntoSight();
    this.pane.stage.focus({ preventScroll: true });
  }

  end() {
    this.setTool("move");
    panel.find("[data-region-start]")?.focus({ preventScroll: true });
    panel.find("[data-region-row]")?.scrollIntoView({ block: "nearest" });
  }

  onTool() {
    if (!REGION_TOOLS.includes(this.tool())) this.drawing?.leaveKeys();
    this.showTool(this.assessment.isAway);
  }

  showTool(elsewhere) {
    const bar = beside.querySelector("[data-region-bar]");
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

  // A click on one of the buttons; `at(name)` finds the one with an attribute.
  onClick(at) {
    if (at("data-region-remove") || at("data-region-clear")) this.drawing.clear();
    else if (at("data-region-tool")) this.setTool(at("data-region-tool").dataset.regionTool);
    else if (at("data-region-undo")) this.drawing.undo();
    else if (at("data-region-done")) this.end();
  }
}

function pointsIn(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

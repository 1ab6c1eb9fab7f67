// The viewer of a study: a stack of slices, its tools and controls, the volume, the comparison,
// and the result beside it, which follows the slice. Its parts lie in the folder viewer.
import { Assessment } from "./assessment.js";
import { keepFolds } from "./folds.js";
import { readByKeys } from "./reading.js";
import { compare, linkNow } from "./viewer/comparison.js";
import { FullScreen } from "./viewer/fullscreen.js";
import { recallHeat, warm } from "./viewer/heatmap.js";
import { bringIntoSight } from "./viewer/links.js";
import { askForStack, waitForNews } from "./viewer/news.js";
import { button, control, viewer } from "./viewer/page.js";
import { newPane } from "./viewer/panes.js";
import { watchResult } from "./viewer/result.js";
import { goTo, listenToTabs, takeStack } from "./viewer/series.js";
import { state } from "./viewer/state.js";
import { listenToButtons, onKeyAnywhere, setTool } from "./viewer/tools.js";
import { choosePreset, prepareGreys, slideWindow } from "./viewer/windowing.js";

function listen() {
  listenToButtons();
  viewer.addEventListener("keydown", onKeyAnywhere);
  for (const name of ["level", "width"]) control(name).addEventListener("input", slideWindow);
  control("heat").addEventListener("change", warm);
  control("opacity").addEventListener("input", warm);
  control("preset").addEventListener("change", () => choosePreset(control("preset").value));
  control("planes").addEventListener("change", () => state.volume?.setPlanes(control("planes").value));
  control("compare")?.addEventListener("change", compare);
  control("linked")?.addEventListener("change", linkNow);
  listenToTabs();
}

async function start() {
  state.main = newPane(viewer.querySelector("[data-pane]"));
  state.active = state.main;
  state.screen = new FullScreen(viewer, {
    onChange: (on) => button("full").setAttribute("aria-pressed", String(on)),
  });
  keepFolds();
  state.assessment = new Assessment({
    goTo,
    setTool,
    tool: () => state.tool,
    bringIntoSight: () => bringIntoSight(state.main.stage),
  });
  recallHeat();
  await askForStack();
  warm();
  takeStack(Number(viewer.dataset.image));
  listen();
  watchResult();
  state.assessment.start(state.main);
  readByKeys(state.assessment);
  viewer.dataset.ready = "";
  prepareGreys();
  if (control("compare")?.value) compare();
  waitForNews();
}

if (viewer) start();

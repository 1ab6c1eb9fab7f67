// What every page needs; each part looks for its own elements.
import { startAppearance } from "./appearance.js";
import { startCopying } from "./copying.js";
import { startLive } from "./live.js";
import { startMenus } from "./menus.js";
import { startTimes } from "./times.js";

startAppearance();
startMenus();
startCopying();
startTimes();
startLive();

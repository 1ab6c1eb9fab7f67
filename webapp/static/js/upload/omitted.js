// Files that are left out, by reason, with as many names as are worth reading.
import { counted, element, MOST_NAMES, texts } from "./page.js";

export function showOmitted(box, files) {
  box.hidden = !files.length;
  box.querySelector("summary").textContent = counted(files.length, "Omitted");
  const reasons = [...new Set(files.map((one) => one.reason))];
  const items = reasons.map((reason) => {
    const names = files.filter((one) => one.reason === reason).map((one) => one.name);
    const item = element("li", "", "");
    item.append(element("span", "omitted-reason", reason));
    for (const name of names.slice(0, MOST_NAMES)) item.append(element("bdi", "omitted-name", name));
    const unnamed = names.length - MOST_NAMES;
    if (unnamed > 0) item.append(element("span", "muted", texts.textMore.replace("{count}", unnamed)));
    return item;
  });
  box.querySelector("ul").replaceChildren(...items);
}

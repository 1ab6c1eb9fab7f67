// The question about text in the pixels, with previews that show where it was found.
import { chosen } from "./chosen.js";
import { element, form, texts } from "./page.js";

const question = form.querySelector("[data-question]");

// `regions` has boxes in fractions of the image, by names of files.
export function askAboutBurnedIn(regions) {
  const images = Object.entries(regions).map(([name, found]) => preview(name, found));
  question.querySelector("[data-question-images]").replaceChildren(...images);
  question.hidden = false;
  question.focus();
}

function preview(name, regions) {
  const figure = element("figure", "question-image");
  const entry = chosen.find((one) => one.name === name);
  if (entry && entry.file.type.startsWith("image/")) figure.append(framed(entry, regions));
  else figure.append(element("p", "muted", texts.textUnseen));
  figure.append(element("figcaption", "", name));
  return figure;
}

function framed(entry, regions) {
  const frame = element("div", "question-frame");
  const picture = document.createElement("img");
  picture.src = entry.url || URL.createObjectURL(entry.file);
  picture.alt = entry.name;
  // Browsers do not show every format that the portal reads.
  picture.addEventListener("error", () => frame.replaceWith(element("p", "muted", texts.textUnseen)));
  frame.append(picture);
  for (const [left, top, right, bottom] of regions) {
    const box = element("span", "question-box");
    box.title = texts.textRegion;
    box.style.insetInlineStart = `${left * 100}%`;
    box.style.top = `${top * 100}%`;
    box.style.width = `${(right - left) * 100}%`;
    box.style.height = `${(bottom - top) * 100}%`;
    frame.append(box);
  }
  return frame;
}

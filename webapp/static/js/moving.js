// Choosing slices to move: whole series, ranges, and several with the shift key; counts them.
const form = document.querySelector("[data-move]");
const single = 'input[name="image"]';
const boxesOf = (part) => [...part.querySelectorAll(single)];
const number = new Intl.NumberFormat(document.documentElement.lang || undefined);
let last = null;

function tell() {
  const every = boxesOf(form);
  const chosen = every.filter((box) => box.checked).length;
  form.querySelector("[data-count]").textContent = form.dataset.textCount
    .replace("{count}", number.format(chosen))
    .replace("{total}", number.format(every.length));
  for (const part of form.querySelectorAll("[data-pick]")) {
    const boxes = boxesOf(part);
    const ticked = boxes.filter((box) => box.checked).length;
    const whole = part.querySelector("[data-whole]");
    whole.checked = ticked === boxes.length;
    whole.indeterminate = ticked > 0 && ticked < boxes.length;
  }
}

function tickRange(part) {
  const boxes = boxesOf(part);
  const first = Number(part.querySelector("[data-from]").value) || 1;
  const end = Number(part.querySelector("[data-to]").value) || boxes.length;
  boxes.forEach((box, index) => {
    if (index + 1 >= first && index + 1 <= end) box.checked = true;
  });
  tell();
}

function start() {
  // The boxes of the slices say everything now; the others only help to tick them.
  for (const one of form.querySelectorAll("[data-whole], [data-from], [data-to]")) one.removeAttribute("name");
  form.addEventListener("change", (event) => {
    const part = event.target.closest("[data-pick]");
    if (event.target.matches("[data-whole]")) {
      for (const box of boxesOf(part)) box.checked = event.target.checked;
    }
    tell();
  });
  form.addEventListener("click", (event) => {
    const part = event.target.closest("[data-pick]");
    if (event.target.closest("[data-range]")) tickRange(part);
    if (!event.target.matches(single)) return;
    const boxes = boxesOf(part);
    const from = boxes.indexOf(last);
    const to = boxes.indexOf(event.target);
    if (event.shiftKey && from >= 0) {
      for (let index = Math.min(from, to); index <= Math.max(from, to); index += 1) {
        boxes[index].checked = event.target.checked;
      }
      tell();
    }
    last = event.target;
  });
  form.addEventListener("keydown", (event) => {
    // Enter in a range ticks it instead of moving slices.
    if (event.key !== "Enter" || !event.target.matches("[data-from], [data-to]")) return;
    event.preventDefault();
    tickRange(event.target.closest("[data-pick]"));
  });
  window.addEventListener("pageshow", tell);
  tell();
}

if (form) start();

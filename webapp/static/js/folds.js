// Which parts of a page the reader has unfolded: kept in the browser, and through htmx's exchanges.
const KEPT = "sulcus.folds";

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) || {};
  } catch {
    return {}; // nothing kept, or nothing readable: the page's own choice stands
  }
}

function restore(within) {
  const folds = kept();
  for (const fold of within.querySelectorAll("details[data-fold]")) {
    if (fold.dataset.fold in folds) fold.open = folds[fold.dataset.fold];
  }
}

export function keepFolds() {
  restore(document);
  document.body.addEventListener("htmx:load", (event) => restore(event.detail.elt.parentElement || document));
  // Before the browser changes it; a script's own changes are nobody's choice.
  document.body.addEventListener("click", (event) => {
    const fold = event.target.closest("summary")?.parentElement;
    if (!fold?.dataset.fold) return;
    try {
      localStorage.setItem(KEPT, JSON.stringify({ ...kept(), [fold.dataset.fold]: !fold.open }));
    } catch {
      // Storage is switched off: the choice lasts as long as the page.
    }
  });
}

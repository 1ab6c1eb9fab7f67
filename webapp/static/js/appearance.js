// The two controls of the theme: the button in the header and the choice on the account page.
const root = document.documentElement;

export function startAppearance() {
  const button = document.querySelector("[data-theme-toggle]");
  const select = document.querySelector("[data-theme-choice]");
  const show = () => {
    const dark = root.dataset.theme === "dark";
    if (button) {
      const text = dark ? button.dataset.toLight : button.dataset.toDark;
      button.setAttribute("aria-label", text);
      button.title = text;
    }
    if (select) select.value = window.sulcusTheme.choice();
  };
  button?.addEventListener("click", () => {
    window.sulcusTheme.choose(root.dataset.theme === "dark" ? "light" : "dark");
  });
  select?.addEventListener("change", () => window.sulcusTheme.choose(select.value));
  new MutationObserver(show).observe(root, { attributeFilter: ["data-theme"] });
  show();
}

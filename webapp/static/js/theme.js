// Runs before the first paint, so that no page flashes in the other theme. Hence not a module.
(function () {
  var root = document.documentElement;
  var light = window.matchMedia("(prefers-color-scheme: light)");
  function choice() {
    try {
      return localStorage.getItem("sulcus.theme") || "dark";
    } catch (error) {
      return "dark"; // storage is switched off
    }
  }
  function apply() {
    var chosen = choice();
    root.dataset.theme = chosen === "auto" ? (light.matches ? "light" : "dark") : chosen;
  }
  root.classList.add("js");
  apply();
  light.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  window.sulcusTheme = {
    choice: choice,
    choose: function (value) {
      try {
        localStorage.setItem("sulcus.theme", value);
      } catch (error) {
        root.dataset.theme = value; // for this page at least
        return;
      }
      apply();
    },
  };
})();

// The panel of an assessment beside the viewer. htmx replaces it as a whole, so it is looked up anew.
export const beside = document.querySelector("[data-beside-viewer]");

export const panel = {
  get element() {
    return document.getElementById("feedback");
  },

  get form() {
    return panel.find("[data-assess]");
  },

  get data() {
    return panel.element.dataset;
  },

  // The slice that the form is about; null without a form.
  get position() {
    return panel.form ? Number(panel.data.image) : null;
  },

  find(selector) {
    return panel.element.querySelector(selector);
  },

  field(name) {
    return panel.form?.elements.namedItem(name);
  },

  // The address of the panel of another slice.
  address(position) {
    return `${beside.dataset.panelUrl}?image=${position}`;
  },
};

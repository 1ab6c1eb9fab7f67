// What the modules of the upload form share: the form, its texts, numbers in words, new elements.
const locale = document.documentElement.lang || "en-GB";
const megabytes = new Intl.NumberFormat(locale, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 });
const kilobytes = new Intl.NumberFormat(locale, { style: "unit", unit: "kilobyte", maximumFractionDigits: 0 });
const plural = new Intl.PluralRules(locale);

export const byPath = new Intl.Collator(locale, { numeric: true });
export const days = new Intl.DateTimeFormat(locale, { dateStyle: "long" });
export const percent = new Intl.NumberFormat(locale, { style: "percent" });

export const MOST_NAMES = 5; // of files or studies that are told of for one reason

export const form = document.querySelector("[data-upload]");
export const texts = form.dataset;
export const input = form.querySelector('input[type="file"]');
export const button = form.querySelector('button[type="submit"]');

export function size(bytes) {
  return bytes < 1e6 ? kilobytes.format(Math.ceil(bytes / 1000)) : megabytes.format(bytes / 1e6);
}

// "1 file chosen", "8 files chosen": the texts stand in the page in both forms.
export function counted(number, what) {
  const form = plural.select(number) === "one" ? "One" : "Other";
  return texts[`count${what}${form}`].replace("{count}", number);
}

export function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

export function linkTo(address, words) {
  const link = element("a", "", words);
  link.href = address;
  return link;
}

// <time data-when> in the reader's time zone: "relative" counts from now, "absolute" is date and time.
const locale = document.documentElement.lang || "en-GB";
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "long" });
const absolute = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
const full = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" });
const UNITS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];
const RELATIVE_FOR = 7 * 86400; // seconds; older moments are clearer as a date

function sinceNow(moment) {
  const seconds = (moment - Date.now()) / 1000;
  if (Math.abs(seconds) > RELATIVE_FOR) return absolute.format(moment);
  for (const [unit, length] of UNITS) {
    if (Math.abs(seconds) >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  return relative.format(0, "second");
}

export function showTimes(within = document) {
  for (const element of within.querySelectorAll("time[data-when]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const text = element.dataset.when === "relative" ? sinceNow(moment) : absolute.format(moment);
    if (element.textContent !== text) element.textContent = text;
    element.title = full.format(moment);
  }
}

export function startTimes() {
  showTimes();
  setInterval(showTimes, 30_000);
}

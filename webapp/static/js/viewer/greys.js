// Grey values of slices: fetched with all their bits, windowed in the browser.
// A window is {centre, width} in the scanner's values: pixel * scale + offset. Its width is the
// distance between black and white; in files that is one less (DICOM PS3.3 C.11.2.1.2).
const KEPT_AT_MOST = 48;
const kept = new Map(); // address -> promise of {pixels, bits}, the latest used last

export function loadGreys(url) {
  let found = kept.get(url);
  if (found) {
    kept.delete(url);
  } else {
    found = fetchGreys(url);
    found.catch(() => kept.delete(url));
  }
  kept.set(url, found);
  if (kept.size > KEPT_AT_MOST) kept.delete(kept.keys().next().value);
  return found;
}

async function fetchGreys(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`no grey values: ${answer.status}`);
  const bits = Number(answer.headers.get("X-Bits") || 16);
  return { pixels: new Uint16Array(await answer.arrayBuffer()), bits };
}

function histogram(pixels) {
  const counts = new Uint32Array(65536);
  for (let index = 0; index < pixels.length; index += 1) counts[pixels[index]] += 1;
  return counts;
}

// The smallest value that this share of all pixels above `floor` does not exceed.
function quantile(counts, share, floor = -1) {
  let total = 0;
  for (let value = floor + 1; value < counts.length; value += 1) total += counts[value];
  let left = Math.max(1, share * total);
  for (let value = floor + 1; value < counts.length; value += 1) {
    left -= counts[value];
    if (left <= 0) return value;
  }
  return counts.length - 1;
}

function between(slice, low, high) {
  const width = Math.max(high - low, 1) * Math.abs(slice.scale || 1);
  return { centre: ((low + high) / 2) * slice.scale + slice.offset, width };
}

export function fileWindow(slice) {
  return slice.window && { centre: slice.window[0], width: slice.window[1], ofFile: true };
}

export function fullRange(greys, slice) {
  const counts = histogram(greys.pixels);
  return between(slice, counts.findIndex((count) => count > 0), quantile(counts, 1));
}

// As the server shows a slice by default.
export function automatic(greys, slice) {
  if (greys.bits === 8) return between(slice, 0, 255);
  const counts = histogram(greys.pixels);
  return between(slice, quantile(counts, 0.005), quantile(counts, 0.995));
}

// Tissue alone: what is brighter than the air around the head sets the window.
function brain(greys, slice) {
  const counts = histogram(greys.pixels);
  const air = Math.round(quantile(counts, 0.995) * 0.1);
  return between(slice, quantile(counts, 0.02, air), quantile(counts, 0.98, air));
}

const scaled = (window, factor) => ({ centre: window.centre, width: window.width * factor });

// `now` is the window in use; narrow and wide start from it.
export const presets = {
  file: (_greys, slice) => fileWindow(slice),
  automatic,
  brain,
  full: fullRange,
  narrow: (_greys, _slice, now) => scaled(now, 0.5),
  wide: (_greys, _slice, now) => scaled(now, 2),
};

export function paint(canvas, greys, slice, window) {
  const scale = slice.scale || 1;
  const start = window.centre - window.width / 2;
  const low = (start - slice.offset) / scale;
  const high = (start + window.width - (window.ofFile ? 1 : 0) - slice.offset) / scale;
  const spread = 255 / Math.max(high - low, 1e-6);
  const shades = new Uint32Array(65536);
  for (let value = 0; value < 65536; value += 1) {
    const grey = Math.min(255, Math.max(0, Math.round((value - low) * spread)));
    shades[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  canvas.width = slice.width;
  canvas.height = slice.height;
  const picture = new ImageData(slice.width, slice.height);
  const target = new Uint32Array(picture.data.buffer);
  const { pixels } = greys;
  for (let index = 0; index < target.length; index += 1) target[index] = shades[pixels[index]];
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

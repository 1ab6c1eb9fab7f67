// Sizes and lengths of slices. Pure functions.

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// Millimetres between pixels, down and across; pixels themselves where the file does not tell.
function spacing(slice) {
  return slice.spacing || [1, 1];
}

// Height and width of a pixel in whatever unit: for pictures alone, lengths are not measured by it.
function shape(slice) {
  return slice.spacing || [slice.aspect || 1, 1];
}

// The largest box of the slice's true proportions inside the stage. Pixels need not be square.
export function fittedBox(slice, width, height) {
  const [down, across] = shape(slice);
  const ratio = (slice.width * across) / (slice.height * down);
  return width / height > ratio
    ? { width: height * ratio, height }
    : { width, height: width / ratio };
}

// Pixels of the screen for one millimetre, from left to right; null where the file does not tell.
export function screenScale(slice, box, zoom) {
  return slice.spacing && (box.width * zoom) / (slice.width * slice.spacing[1]);
}

const BARS = [100, 50, 20, 10, 5, 2, 1]; // millimetres that a scale bar may stand for

// The longest of them that has room; null where even the shortest has none.
export function barLength(pixelsPerMillimetre, room) {
  return BARS.find((length) => length * pixelsPerMillimetre <= room) || null;
}

// Between two points in pixels of the slice; millimetres, or pixels where the file does not tell.
export function lengthOf(slice, from, to) {
  const [down, across] = spacing(slice);
  return Math.hypot((to.x - from.x) * across, (to.y - from.y) * down);
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const PARALLEL = 0.7; // cosine: planes that differ by less than 45 degrees

// How alike two series lie: 1 the same way, -1 the other way round, 0 unknown or across.
export function alignment(one, other) {
  if (!one.normal || !other.normal) return 0;
  const cosine = dot(one.normal, other.normal);
  return Math.abs(cosine) < PARALLEL ? 0 : Math.sign(cosine);
}

// The slice of `other` that goes with slice `index` of `one`: by millimetres from the middle where
// both are volumes in like planes, else by the share of the way.
export function matchingIndex(one, index, other) {
  const last = other.slices.length - 1;
  const way = alignment(one, other);
  if (one.is_volume && other.is_volume && way && one.spacing && other.spacing) {
    const millimetres = (index - (one.slices.length - 1) / 2) * one.spacing;
    return clamp(Math.round(last / 2 + (way * millimetres) / other.spacing), 0, last);
  }
  const share = one.slices.length > 1 ? index / (one.slices.length - 1) : 0.5;
  return Math.round((way < 0 ? 1 - share : share) * last);
}

// The centre of a slice in NIfTI's patient system (x to the right, y to the front), for the volume.
export function alongNormal(series, millimetres) {
  const [x, y, z] = millimetres;
  const inDicom = [-x, -y, z];
  const away = inDicom.map((value, axis) => value - series.origin[axis]);
  return Math.round(dot(away, series.normal) / series.spacing);
}

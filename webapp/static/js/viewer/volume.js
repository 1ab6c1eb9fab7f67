// A series as a volume in three planes, shown by NiiVue, which is fetched only when it is wanted.
import { alongNormal } from "./geometry.js";

const HEAT_AT_MOST = 217; // opacity of the hottest place in a heatmap, of 255
const HEAT_OPAQUE = 160; // from here on nothing shines through; below, opacity is its square
const FADING = 1; // NiiVue: colours from zero, translucent below cal_min
const ZOOM_STEP = 1.25;

export function volumesCanBeShown() {
  return Boolean(document.createElement("canvas").getContext("webgl2"));
}

export class VolumeView {
  // onMove(index) is told which slice of the series the cross lies in.
  constructor(canvas, { onMove }) {
    this.canvas = canvas;
    this.onMove = onMove;
  }

  async open(series, { volumeUrl, heatUrl, heat }) {
    if (!this.viewer) await this.start();
    this.series = series;
    const volumes = [{ url: volumeUrl, name: "volume.nii", colormap: "gray" }];
    if (heatUrl) volumes.push(heatVolume(heatUrl, heat));
    await this.viewer.loadVolumes(volumes);
    if (heatUrl) {
      this.viewer.volumes[1].colormapType = FADING; // no option of loadVolumes
      this.viewer.updateGLVolume();
    }
    this.shown = { min: this.viewer.volumes[0].cal_min, max: this.viewer.volumes[0].cal_max };
  }

  async start() {
    const library = await import("../../vendor/niivue.js");
    this.library = library;
    this.viewer = new library.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.37, 0.82, 0.77, 0.8],
      crosshairWidth: 0.4,
      crosshairWidthUnit: "mm",
      crosshairGap: 8,
      dragAndDropEnabled: false,
      fontColor: [1, 0.91, 0.69, 1],
      fontMinPx: 18,
      sagittalNoseLeft: true, // as scanners store sagittal slices, and as the stack shows them
      showAllOrientationMarkers: true,
      isColorbar: false,
      isRadiologicalConvention: true,
      loadingText: "",
      logLevel: "error",
      measureLineColor: [1, 0.84, 0.4, 1],
      measureTextColor: [1, 0.84, 0.4, 1],
      multiplanarForceRender: false,
      multiplanarShowRender: library.SHOW_RENDER.NEVER,
      multiplanarPadPixels: 4,
      rulerColor: [1, 0.84, 0.4, 1],
      sliceType: library.SLICE_TYPE.MULTIPLANAR,
    });
    this.viewer.onLocationChange = (place) => {
      if (this.series?.normal) this.onMove(alongNormal(this.series, place.mm));
    };
    this.viewer.onIntensityChange = () => this.onWindow?.(this.window);
    this.leaveOutWithoutRoom();
    this.writeLettersOfDicom();
    await this.viewer.attachToCanvas(this.canvas);
    this.listen();
    this.setTool("move");
  }

  // A canvas out of the layout, or of a window that closes, has no size, and the planes that
  // NiiVue would draw into it would have one below zero.
  leaveOutWithoutRoom() {
    const draw = this.viewer.drawScene.bind(this.viewer);
    this.viewer.drawScene = () => {
      if (this.canvas.width > 0 && this.canvas.height > 0) return draw();
    };
  }

  // Up and down are S and I to NiiVue, but H and F to DICOM and to our stack.
  writeLettersOfDicom() {
    const letters = { S: "H", I: "F" };
    for (const name of ["drawTextBelow", "drawTextAbove"]) {
      const write = this.viewer[name].bind(this.viewer);
      this.viewer[name] = (place, text, ...rest) => write(place, letters[text] || text, ...rest);
    }
  }

  // The canvas of NiiVue has keys and a wheel of its own; ours come first.
  listen() {
    const around = this.canvas.parentElement;
    around.addEventListener("keydown", (event) => this.onKey(event), { capture: true });
    around.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        event.stopPropagation();
        this.zoom(event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP);
      },
      { capture: true, passive: false },
    );
  }

  onKey(event) {
    if (event.key === "Tab" || event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 10 : 1;
    // In voxels of NiiVue, which count to the patient's right: to the left of the screen.
    const moves = {
      ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
      PageUp: [0, 0, 1], PageDown: [0, 0, -1],
    }; // prettier-ignore
    const move = moves[event.key];
    if (move) this.viewer.moveCrosshairInVox(...move.map((step) => step * far));
    // Letters and signs mean ours, wherever they are pressed; NiiVue's own would surprise.
    event.stopImmediatePropagation();
    if (move) event.preventDefault();
    else this.onOtherKey?.(event);
  }

  setTool(tool) {
    if (!this.viewer) return;
    const { DRAG_MODE } = this.library;
    const primary = {
      move: DRAG_MODE.crosshair,
      window: DRAG_MODE.windowing,
      measure: DRAG_MODE.measurement,
    }[tool];
    this.viewer.setMouseEventConfig({
      leftButton: { primary, withShift: DRAG_MODE.pan, withCtrl: DRAG_MODE.pan },
      rightButton: DRAG_MODE.windowing,
      centerButton: DRAG_MODE.pan,
    });
    this.viewer.setTouchEventConfig({ singleTouch: primary, doubleTouch: DRAG_MODE.pan });
  }

  setPlanes(planes) {
    const { SLICE_TYPE } = this.library;
    const types = {
      all: SLICE_TYPE.MULTIPLANAR,
      axial: SLICE_TYPE.AXIAL,
      coronal: SLICE_TYPE.CORONAL,
      sagittal: SLICE_TYPE.SAGITTAL,
    };
    this.viewer.setSliceType(types[planes]);
  }

  setHeat({ on, opacity }) {
    if (this.viewer?.volumes.length > 1) this.viewer.setOpacity(1, on ? opacity : 0);
  }

  // {centre, width} in the scanner's values; null for NiiVue's own choice.
  setWindow(window) {
    const volume = this.viewer?.volumes[0];
    if (!volume) return;
    volume.cal_min = window ? window.centre - window.width / 2 : this.shown.min;
    volume.cal_max = window ? window.centre + window.width / 2 : this.shown.max;
    this.viewer.updateGLVolume();
  }

  get window() {
    const volume = this.viewer?.volumes[0];
    return volume && { centre: (volume.cal_min + volume.cal_max) / 2, width: volume.cal_max - volume.cal_min };
  }

  invert(on) {
    if (!this.viewer?.volumes.length) return;
    this.viewer.volumes[0].colormapInvert = on;
    this.viewer.updateGLVolume();
  }

  // Move the cross to a slice of the series; what else it points at stays.
  goTo(index) {
    const { viewer, series } = this;
    if (!series?.normal || !viewer?.volumes.length) return;
    const frac = viewer.scene.crosshairPos;
    const now = alongNormal(series, viewer.frac2mm(frac));
    const way = series.normal.map((part) => part * (index - now) * series.spacing);
    const [x, y, z] = viewer.frac2mm(frac);
    viewer.scene.crosshairPos = viewer.mm2frac([x - way[0], y - way[1], z + way[2]]);
    viewer.drawScene();
  }

  get zoomed() {
    return this.viewer?.scene.pan2Dxyzmm[3] || 1;
  }

  zoom(factor) {
    const [x, y, z, zoom] = this.viewer.scene.pan2Dxyzmm;
    this.viewer.setPan2Dxyzmm([x, y, z, Math.min(16, Math.max(1, zoom * factor))]);
    this.onZoom?.();
  }

  fit() {
    this.viewer.setPan2Dxyzmm([0, 0, 0, 1]);
    this.onZoom?.();
  }

  reset() {
    this.viewer.clearAllMeasurements();
    this.setWindow(null);
    this.fit();
  }
}

function heatVolume(url, { on, opacity }) {
  return {
    url,
    name: "heatmap.nii.gz",
    colormap: "inferno",
    opacity: on ? opacity : 0,
    cal_min: HEAT_OPAQUE,
    cal_max: HEAT_AT_MOST,
  };
}

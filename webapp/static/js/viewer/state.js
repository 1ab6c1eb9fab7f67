// What is open in the viewer just now. A page has one viewer, so its modules share one state.
import { button } from "./page.js";

export const state = {
  stack: null, // what the server says about all slices
  main: null, // the pane of this study
  second: null, // the pane of the study to compare with
  active: null, // the pane that was touched last
  screen: null, // the viewer alone on the screen
  volume: null, // the volume view, once it was wanted
  assessment: null, // the form beside the viewer
  tool: "move",
  inverted: false,
  touched: new URLSearchParams(location.search).has("image"), // the reader chose the slice
};

export const panes = () => [state.main, state.second].filter(Boolean);
export const volumeIsOpen = () => button("volume")?.getAttribute("aria-pressed") === "true";

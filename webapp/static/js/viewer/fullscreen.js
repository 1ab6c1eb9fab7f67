// The viewer alone: on the whole screen where the browser can, else over the whole window.
export class FullScreen {
  constructor(element, { onChange }) {
    this.element = element;
    this.onChange = onChange;
    document.addEventListener("fullscreenchange", () => {
      const on = document.fullscreenElement === element;
      if (!this.covers) this.show(on);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || !this.on) return;
      event.preventDefault();
      this.leave();
    });
  }

  get on() {
    return this.element.classList.contains("full");
  }

  toggle() {
    if (this.on) this.leave();
    else this.enter();
  }

  async enter() {
    try {
      await this.element.requestFullscreen();
    } catch {
      this.cover(true); // telephones have it for films alone
    }
  }

  leave() {
    if (document.fullscreenElement === this.element) document.exitFullscreen();
    else if (this.covers) this.cover(false);
  }

  cover(on) {
    this.covers = on;
    setRestInert(this.element, on);
    document.documentElement.classList.toggle("covered-page", on);
    this.show(on);
  }

  show(on) {
    this.element.classList.toggle("full", on);
    this.onChange(on);
  }
}

// What lies below takes neither keys nor touches; what speaks goes on speaking.
function setRestInert(element, on) {
  for (let inner = element; inner !== document.body; inner = inner.parentElement) {
    for (const other of inner.parentElement.children) {
      if (other !== inner && !other.matches("[aria-live], [role='alert']")) other.inert = on;
    }
  }
}

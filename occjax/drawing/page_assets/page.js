// The page: what is shown, the controls that change it, and a picture whenever something has changed.
"use strict";

const PANELS = ["truth", "prediction", "teacher", "errors"];
const LARGEST_RATIO = 2; // pixels of the canvas to one of the page: more cost time and show nothing
const GAP = 6;
const TAP = 5; // a pointer that moved less has pressed, not dragged

const byId = (id) => document.getElementById(id);

// In the place of the picture; null takes it away.
function tell(text) {
  byId("message").textContent = text;
  byId("message").hidden = text === null;
}

class Page {
  constructor(scene) {
    this.scene = scene;
    this.canvas = byId("canvas");
    this.renderer = new Renderer(this.canvas, scene);
    const floor = scene.car.box[0][2];
    this.camera = new OrbitCamera(scene.grid, floor);
    this.floor = floor;
    this.isTop = false;
    this.panels = PANELS.filter((name) => name in scene.panels || (name === "errors" && "truth" in scene.panels));
    this.alone = null; // the panel that has the stage to itself
    this.palettes = { class: paletteOf(scene.colors), error: paletteOf(scene.errors.map((kind) => kind.color)) };
    this.on = { class: new Uint8Array(256).fill(1), error: new Uint8Array(256).fill(1) };
    this.on.error[ERROR_KINDS.uncounted] = 0;
    this.top = scene.grid.shape[2];
    this.frame = 0;
    this.volumes = null;
    this.decoded = new Map();
    this.marked = null;
    this.stale = new Set();
    this.awaitsFrame = false;
    this.playing = null;
  }

  async start() {
    this.makeLabels();
    this.makeLegend();
    this.makeCameras();
    this.makeControls();
    new PointerControl(this.canvas, this);
    this.canvas.addEventListener("webglcontextlost", (event) => {
      // Otherwise it never comes back.
      event.preventDefault();
      tell("The graphics card was reset. If the picture does not return, reload the page.");
    });
    this.canvas.addEventListener("webglcontextrestored", () => location.reload());
    new ResizeObserver(() => this.resize()).observe(byId("stage"));
    this.resize();
    await this.showFrame(0);
  }

  // ------------------------------------------------------------------------------------------------- what is shown

  async showFrame(number) {
    this.frame = number;
    const { title, voxels, images } = this.scene.frames[number];
    byId("sample").textContent = title;
    byId("time").value = number;
    byId("timeText").textContent = `${number + 1} / ${this.scene.frames.length}`;
    byId("cameras").querySelectorAll("img").forEach((image, i) => {
      image.src = `data:image/webp;base64,${images[i]}`;
    });
    if (!this.decoded.has(number)) this.decoded.set(number, decodeFrame(voxels, this.scene));
    let volumes = null;
    try {
      volumes = await this.decoded.get(number);
    } catch {
      // Told below, of the frame that is looked at.
    }
    // The slider may have moved on meanwhile.
    if (number !== this.frame) return;
    // What was told then still holds.
    if (this.renderer.gl.isContextLost()) return;
    tell(volumes ? null : "The voxels of this frame are damaged: write the page again.");
    if (!volumes) {
      this.mark(null);
      this.renderer.clear();
    }
    this.volumes = volumes;
    this.change();
  }

  // Voxels have changed: faces are looked for again when they are drawn.
  change() {
    this.stale = new Set(this.panels);
    this.mark(null);
    this.requestDraw();
  }

  requestDraw() {
    if (this.awaitsFrame) return;
    this.awaitsFrame = true;
    requestAnimationFrame(() => {
      this.awaitsFrame = false;
      this.draw();
    });
  }

  draw() {
    if (!this.volumes) return;
    const before = performance.now();
    const shown = this.shownPanels();
    for (const name of shown.filter((panel) => this.stale.delete(panel))) {
      const faces = exposedFaces(this.volumes[name], this.scene.grid.shape, this.on[kindOf(name)], this.top);
      this.renderer.setFaces(name, faces);
    }
    const between = performance.now();
    const ratio = this.ratio();
    const panels = shown.map((name, i) => {
      const [left, top, width, height] = this.rectangles()[i];
      const rectangle = [left, this.canvas.clientHeight - top - height, width, height];
      return { name, palette: this.palettes[kindOf(name)], rectangle: rectangle.map((value) => Math.round(value * ratio)) };
    });
    this.renderer.draw(panels, this.camera, this.marked);
    // For whoever measures the page.
    const { dataset } = this.canvas;
    dataset.draws = Number(dataset.draws ?? 0) + 1;
    dataset.faces = shown.reduce((sum, name) => sum + this.renderer.meshes.get(name).count, 0);
    dataset.facesMs = between - before;
    dataset.drawMs = performance.now() - between;
  }

  shownPanels() {
    return this.alone ? [this.alone] : this.panels;
  }

  // Left, top, width and height of each panel that is shown, in pixels of the page: as many columns as give the largest
  // panels of a pleasant shape.
  rectangles() {
    const count = this.shownPanels().length;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const size = (columns) => {
      const rows = Math.ceil(count / columns);
      return Math.min(width / columns, (height / rows) * 1.5);
    };
    let columns = 1;
    for (let more = 2; more <= count; more++) if (size(more) > size(columns)) columns = more;
    const rows = Math.ceil(count / columns);
    const h = Math.max(1, (height - GAP * (rows - 1)) / rows);
    return this.shownPanels().map((_, i) => {
      const row = Math.floor(i / columns);
      // Fewer of them, in the last row, are wider.
      const inRow = Math.min(columns, count - row * columns);
      const w = Math.max(1, (width - GAP * (inRow + 1)) / inRow);
      return [GAP + (i % columns) * (w + GAP), row * (h + GAP), w, h];
    });
  }

  ratio() {
    return Math.min(window.devicePixelRatio || 1, LARGEST_RATIO);
  }

  resize() {
    const ratio = this.ratio();
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.rectangles().forEach(([left, top, width, height], i) => {
      const label = byId("labels").querySelector(`[data-panel="${this.shownPanels()[i]}"]`);
      Object.assign(label.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
    });
    for (const label of byId("labels").children) label.hidden = !this.shownPanels().includes(label.dataset.panel);
    if (this.isTop) this.view(true);
    this.requestDraw();
  }

  view(isTop) {
    this.isTop = isTop;
    if (isTop) {
      const [, , width, height] = this.rectangles()[0];
      this.camera.above(width / height);
    } else this.camera.behind();
    this.requestDraw();
  }

  // ------------------------------------------------------------------------------------------ what the pointer is on

  // Panel, place in it from -1 to 1 with y up, and its aspect, for a point of the canvas; null between panels.
  panelAt(x, y) {
    const rectangles = this.rectangles();
    const i = rectangles.findIndex(([l, t, w, h]) => x >= l && x < l + w && y >= t && y < t + h);
    if (i < 0) return null;
    const [left, top, width, height] = rectangles[i];
    const place = [(2 * (x - left)) / width - 1, 1 - (2 * (y - top)) / height];
    return { name: this.shownPanels()[i], place, width, aspect: width / height };
  }

  point(x, y) {
    const panel = this.panelAt(x, y);
    if (!panel || !this.volumes) return this.mark(null);
    const isOn = this.on[kindOf(panel.name)];
    const ray = this.camera.ray(...panel.place, panel.aspect);
    const voxel = firstVoxel(ray, this.volumes[panel.name], this.scene.grid, (value, z) => isOn[value] && z < this.top);
    this.mark(voxel);
    if (voxel) this.showTip(x, y, panel.name, voxel);
  }

  mark(voxel) {
    byId("tip").hidden = !voxel;
    if (String(voxel) === String(this.marked)) return;
    this.marked = voxel;
    this.requestDraw();
  }

  showTip(x, y, name, voxel) {
    const { lower, size, shape } = this.scene.grid;
    const index = (voxel[0] * shape[1] + voxel[1]) * shape[2] + voxel[2];
    const heading = document.createElement("b");
    const value = this.volumes[name].values[index];
    heading.textContent = name === "errors" ? this.scene.errors[value].name : this.said(name, index);
    // Of the same place in the other panels too.
    const others = Object.keys(this.scene.panels).filter((other) => other !== name);
    const lines = others.map((other) => `${other}: ${this.said(other, index)}`);
    const [ahead, left, up] = voxel.map((v, i) => lower[i] + (v + 0.5) * size - (i === 2 ? this.floor : 0));
    const along = `${Math.abs(ahead).toFixed(1)} m ${ahead < 0 ? "behind" : "ahead"}`;
    const across = `${Math.abs(left).toFixed(1)} m ${left < 0 ? "right" : "left"}`;
    lines.push(`${along}, ${across}`, `${Math.abs(up).toFixed(1)} m ${up < 0 ? "below" : "above"} the ground`);
    const tip = byId("tip");
    tip.replaceChildren(heading, lines.join("\n"));
    tip.style.left = `${Math.max(0, Math.min(x + 14, this.canvas.clientWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(0, Math.min(y + 14, this.canvas.clientHeight - tip.offsetHeight - 4))}px`;
  }

  // Class of a voxel, with its probability where there is one.
  said(name, index) {
    const { values, levels } = this.volumes[name];
    if (values[index] === EMPTY) return name === "truth" ? "free or unknown" : "free";
    const probability = levels ? `, ${Math.round((100 * levels[index]) / (this.scene.levels - 1))} %` : "";
    return this.scene.names[values[index]] + probability;
  }

  // ----------------------------------------------------------------------------------------------------- controls

  makeLabels() {
    for (const name of this.panels) {
      const label = document.createElement("div");
      label.dataset.panel = name;
      const button = document.createElement("button");
      button.textContent = name;
      button.title = "Alone, and back";
      button.onclick = () => {
        this.alone = this.alone || this.panels.length === 1 ? null : name;
        this.mark(null);
        this.resize();
      };
      label.append(button);
      byId("labels").append(label);
    }
  }

  makeLegend() {
    const { names, colors, classes, errors } = this.scene;
    const entries = classes.map((value) => [value, names[value], colors[value]]);
    this.addToggles("classes", "class", entries);
    if (!this.panels.includes("errors")) return;
    this.addToggles("errors", "error", errors.map((kind, value) => [value, kind.name, kind.color]));
  }

  addToggles(title, kind, entries) {
    const heading = document.createElement("h2");
    const all = document.createElement("button");
    all.textContent = "all";
    heading.append(title, all);
    const buttons = entries.map(([value, name, color]) => {
      const button = document.createElement("button");
      button.className = "toggle";
      button.dataset[kind] = value;
      const patch = document.createElement("i");
      patch.style.background = `rgb(${color.join(",")})`;
      button.append(patch, name);
      button.title = "Click to show or hide, double click for this alone";
      button.onclick = () => this.toggle(kind, buttons, [value], !this.on[kind][value]);
      button.ondblclick = () => {
        this.toggle(kind, buttons, entries.map(([other]) => other), false);
        this.toggle(kind, buttons, [value], true);
      };
      return button;
    });
    const values = entries.map(([value]) => value);
    all.title = "Show all, or none";
    all.onclick = () => this.toggle(kind, buttons, values, !values.every((value) => this.on[kind][value]));
    byId("legend").append(heading, ...buttons);
    this.toggle(kind, buttons, [], true);
  }

  toggle(kind, buttons, values, isOn) {
    for (const value of values) this.on[kind][value] = Number(isOn);
    for (const button of buttons) button.setAttribute("aria-pressed", this.on[kind][button.dataset[kind]] === 1);
    this.change();
  }

  makeCameras() {
    for (const name of this.scene.cameras) {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      caption.textContent = name.replace(/^CAM_/, "").replaceAll("_", " ").toLowerCase();
      const image = document.createElement("img");
      image.alt = name;
      figure.append(image, caption);
      byId("cameras").append(figure);
    }
  }

  makeControls() {
    const { frames, grid } = this.scene;
    const [time, height] = [byId("time"), byId("height")];
    time.max = frames.length - 1;
    time.oninput = () => this.showFrame(Number(time.value));
    byId("play").hidden = byId("time").parentElement.hidden = frames.length === 1;
    byId("play").onclick = () => this.play();
    height.max = height.value = grid.shape[2];
    const showHeight = () => {
      this.top = Number(height.value);
      const upper = grid.lower[2] + this.top * grid.size - this.floor;
      byId("heightText").textContent = this.top === grid.shape[2] ? "all" : `to ${upper.toFixed(1)} m`;
      this.change();
    };
    height.oninput = showHeight;
    showHeight();
    byId("behind").onclick = () => this.view(false);
    byId("top").onclick = () => this.view(true);
    const keys = {
      b: () => this.view(false),
      t: () => this.view(true),
      " ": () => this.play(),
      ArrowLeft: () => this.showFrame((this.frame + frames.length - 1) % frames.length),
      ArrowRight: () => this.showFrame((this.frame + 1) % frames.length),
    };
    window.addEventListener("keydown", (event) => {
      // Sliders have keys of their own, and buttons one.
      if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.matches("button") && event.key === " ") return;
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (key in keys) {
        keys[key]();
        event.preventDefault();
      }
    });
  }

  play() {
    if (this.scene.frames.length === 1) return;
    if (this.playing) {
      clearInterval(this.playing);
      this.playing = null;
    } else {
      this.playing = setInterval(() => this.showFrame((this.frame + 1) % this.scene.frames.length), 500);
    }
    byId("play").textContent = this.playing ? "\u275a\u275a" : "\u25b6";
  }
}

function kindOf(panel) {
  return panel === "errors" ? "error" : "class";
}

// Mouse and fingers: one turns, two (or the right button, or shift) shift and zoom, a tap asks what is there.
class PointerControl {
  constructor(canvas, page) {
    this.page = page;
    this.canvas = canvas;
    this.pointers = new Map();
    this.travelled = 0;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && page.mark(null));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    for (const name of ["pointerdown", "wheel"]) canvas.addEventListener(name, () => (byId("hint").hidden = true));
  }

  place(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    if (!this.pointers.size) this.travelled = 0;
    this.pointers.set(event.pointerId, this.place(event));
  }

  move(event) {
    const now = this.place(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.page.point(...now);
      return;
    }
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    this.travelled += Math.abs(dx) + Math.abs(dy);
    if (this.travelled > TAP) this.page.mark(null);
    const { camera } = this.page;
    const width = (this.page.panelAt(...now) ?? this.page.panelAt(...before))?.width ?? this.canvas.clientWidth;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    if (others.length) {
      const apart = ([x, y]) => Math.max(Math.hypot(x - others[0][0], y - others[0][1]), 10);
      camera.zoom(apart(before) / apart(now));
      camera.shift(-dx / 2 / width, dy / 2 / width);
    } else if (event.buttons & 2 || event.shiftKey) camera.shift(-dx / width, dy / width);
    else camera.turn(-dx * 0.006, dy * 0.006);
    this.page.isTop = false;
    this.pointers.set(event.pointerId, now);
    this.page.requestDraw();
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    if (event.type === "pointerup" && this.travelled <= TAP) this.page.point(...this.place(event));
  }

  wheel(event) {
    event.preventDefault();
    this.page.isTop = false;
    this.page.camera.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY * (event.deltaMode ? 30 : 1))) * 0.002));
    this.page.requestDraw();
  }
}

async function main() {
  try {
    if (!("DecompressionStream" in window)) throw new Error("This page needs a browser of 2023 or later.");
    await new Page(JSON.parse(byId("scene").textContent)).start();
  } catch (error) {
    byId("hint").hidden = true;
    tell(error.message);
  }
}

main();

/** Small charts over time, drawn as SVG: a line for each figure, the highest value, and what it is at one moment. */

import { onResize, setText } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT_PX = 74;
const TOP_PX = 4;
const STEP_PX = 3; // the samples of so much width are one point, the highest of them
const QUARTERS = [0.25, 0.5, 0.75];

function shape(tag, attributes = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

export class Chart {
  #title;
  #series;
  #format;
  #floor;
  #spanS;
  #svg;
  #lines;
  #areas;
  #cursor;
  #said;
  #most;
  #samples = [];
  #endS = 0;
  #width = 0;

  /**
   * `series`: up to two of `{ name, of(sample) }`, null where there is nothing to tell; `isPlain` saves the name's room.
   * `format` writes a value; `floor` is the least that the full height stands for, so that small noise looks small.
   */
  constructor({ title, meaning = "", series, format, floor = 1, spanS = 3600 }) {
    this.#title = title;
    this.#series = series;
    this.#format = format;
    this.#floor = floor;
    this.#spanS = spanS;
    this.node = document.createElement("figure");
    this.node.className = "chart";
    this.node.title = meaning;
    const caption = document.createElement("figcaption");
    const name = document.createElement("span");
    name.className = "name";
    setText(name, title);
    this.#said = series.map(({ name: word, isPlain }, index) => {
      const value = document.createElement("b");
      value.className = `series-${index + 1}`;
      if (series.length > 1 && !isPlain) value.dataset.name = word;
      return value;
    });
    caption.append(name, ...this.#said);
    this.#svg = shape("svg", { role: "img", height: HEIGHT_PX, preserveAspectRatio: "none" });
    this.#areas = series.map((_, index) => shape("path", { class: `area series-${index + 1}` }));
    this.#lines = series.map((_, index) => shape("path", { class: `line series-${index + 1}` }));
    this.#cursor = shape("line", { class: "cursor", y1: 0, y2: HEIGHT_PX, visibility: "hidden" });
    this.#most = document.createElement("span");
    this.grid = QUARTERS.map(() => shape("line", { class: "grid", y1: 0, y2: HEIGHT_PX }));
    this.#svg.append(...this.grid, ...this.#areas, ...this.#lines, this.#cursor);
    const ends = document.createElement("span");
    ends.className = "ends";
    ends.setAttribute("aria-hidden", "true");
    ends.append("1 h ago", this.#most, "now");
    this.node.append(caption, this.#svg, ends);
    onResize([this.node], () => this.#draw());
  }

  /** The part of the width, 0 to 1, at which a pointer is. */
  at(clientX) {
    const { left, width } = this.#svg.getBoundingClientRect();
    return Math.min(1, Math.max(0, (clientX - left) / width));
  }

  show(samples, endS) {
    this.#samples = samples;
    this.#endS = endS;
    this.#draw();
  }

  /** Says the values of one sample, and marks it; without one, those of the last sample. */
  point(sample) {
    const said = sample ?? this.#samples.at(-1);
    this.#series.forEach(({ of }, index) => {
      const value = said ? of(said) : null;
      setText(this.#said[index], value === null ? "–" : this.#format(value));
    });
    this.#cursor.setAttribute("visibility", sample ? "visible" : "hidden");
    if (sample) {
      const x = this.#x(sample.at).toFixed(1);
      this.#cursor.setAttribute("x1", x);
      this.#cursor.setAttribute("x2", x);
    }
  }

  #x(at) {
    return this.#width * (1 - (this.#endS - at) / this.#spanS);
  }

  #draw() {
    this.#width = this.#svg.clientWidth;
    if (!this.#width) return;
    this.#svg.setAttribute("viewBox", `0 0 ${this.#width} ${HEIGHT_PX}`);
    QUARTERS.forEach((part, index) => ["x1", "x2"].forEach((name) => this.grid[index].setAttribute(name, Math.round(part * this.#width))));
    const values = this.#series.flatMap(({ of }) => this.#samples.map(of).filter((value) => value !== null));
    const highest = values.length ? Math.max(...values) : 0;
    const full = Math.max(highest, this.#floor);
    this.#series.forEach(({ of }, index) => this.#trace(of, full, this.#lines[index], this.#areas[index]));
    setText(this.#most, values.length ? `most ${this.#format(highest)}` : "no data");
    const last = this.#samples.at(-1);
    const now = this.#series.map(({ name, of }) => {
      const value = last ? of(last) : null;
      return `${this.#series.length > 1 ? `${name} ` : ""}${value === null ? "none" : this.#format(value)}`;
    });
    this.#svg.setAttribute("aria-label", `${this.#title}: now ${now.join(", ")}; most in the last hour ${this.#format(highest)}`);
  }

  #trace(of, full, line, area) {
    const points = []; // [x, value], null between two pieces
    let bucket = -1;
    for (const sample of this.#samples) {
      const value = of(sample);
      const x = this.#x(sample.at);
      if (value === null) {
        if (points.at(-1)) points.push(null);
        bucket = -1;
      } else if (Math.floor(x / STEP_PX) === bucket) {
        points.at(-1)[1] = Math.max(points.at(-1)[1], value);
      } else {
        bucket = Math.floor(x / STEP_PX);
        points.push([x, value]);
      }
    }
    const base = HEIGHT_PX - 1;
    const y = (value) => base - ((base - TOP_PX) * value) / full;
    let path = "";
    let filled = "";
    let from = null;
    let to = null;
    const close = () => {
      if (from !== null) filled += `V${base}H${from.toFixed(1)}Z`;
      from = null;
    };
    for (const point of points) {
      if (!point) {
        close();
        continue;
      }
      const [x, value] = point;
      const place = `${x.toFixed(1)} ${y(value).toFixed(1)}`;
      if (from === null) {
        path += `M${place}h.1`; // a lone point is seen as well
        filled += `M${x.toFixed(1)} ${base}L${place}`;
        from = x;
      } else {
        path += `L${place}`;
        filled += `L${place}`;
      }
      to = x;
    }
    if (to !== null) close();
    line.setAttribute("d", path);
    area.setAttribute("d", filled);
  }
}

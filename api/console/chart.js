// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// Lines over the last minutes, by uPlot. Colours come from the style sheet and follow the theme.
import { h, text } from "./dom.js";

const HEIGHT = 170;
const LEAST_S = 60; // the axis never shows less
const NEAR = 0.1; // a ceiling is in the picture when the line comes so near
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const PENS = ["--pen-1", "--pen-2", "--pen-3", "--pen-4", "--pen-5", "--pen-6"];

// A dashed line where the ceiling is, if it is in the picture.
function ceilingDraw(plot, ceiling) {
  const { ctx, bbox } = plot;
  if (!(ceiling <= plot.scales.y.max)) return;
  const y = Math.round(plot.valToPos(ceiling, "y", true)) + 0.5;
  ctx.save();
  ctx.strokeStyle = colour("--bad");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

function optionsOf(labels, format, width, ceiling) {
  const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width,
    height: HEIGHT,
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    legend: { show: false },
    padding: [8, 24, 0, 0], // half of the last time beside the axis
    scales: { x: { time: true, range: ({ data: [time] }) => (time.length === 0 ? [0, LEAST_S] : [Math.min(time[0], time.at(-1) - LEAST_S), time.at(-1)]) }, y: { range: (_, __, max) => [0, (max > ceiling() * NEAR ? Math.max(max, ceiling()) : max) * 1.08 || 1] } },
    hooks: { draw: [(plot) => ceilingDraw(plot, ceiling())] },
    axes: [
      { ...axis, space: 90, size: 26, gap: 4, incrs: [10, 15, 30, 60, 120, 300], values: (_, ticks) => ticks.map((tick) => clock.format(tick * 1000)) },
      { ...axis, size: 74, gap: 6, values: (_, ticks) => ticks.map((tick) => (tick === 0 ? "0" : format(tick))) },
    ],
    series: [
      {},
      ...labels.map((label, i) => ({
        label,
        stroke: colour(PENS[i % PENS.length]),
        fill: labels.length === 1 ? `${colour(PENS[0])}1c` : undefined,
        width: 1.5,
        points: { show: false },
      })),
    ],
  };
}

// title, format(value) for axis and legend, ceiling(): what the lines cannot rise above, or undefined.
export class Chart {
  constructor(title, format, ceiling = () => undefined) {
    this.title = title;
    this.format = format;
    this.ceiling = ceiling;
    this.labels = null;
    this.plot = null;
    this.data = [[]];
    this.legend = h("div", { class: "legend" });
    this.place = h("div", { class: "plot", role: "img", "aria-label": title });
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, h("h3", {}, title), this.legend), this.place);
    this.sized = new ResizeObserver(() => this.resize());
    this.sized.observe(this.place);
    this.redress = () => this.make();
    dark.addEventListener("change", this.redress);
  }

  close() {
    this.sized.disconnect();
    dark.removeEventListener("change", this.redress);
    this.plot?.destroy();
  }

  resize() {
    const width = Math.floor(this.place.clientWidth);
    if (width < 60) return;
    if (this.plot === null) this.make();
    else if (this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
  }

  make() {
    const width = Math.floor(this.place.clientWidth);
    this.plot?.destroy();
    this.plot = null;
    if (this.labels === null || width < 60) return;
    this.plot = new globalThis.uPlot(optionsOf(this.labels, this.format, width, this.ceiling), this.data, this.place);
    this.plot.over.addEventListener("mousemove", () => this.tell());
    this.plot.over.addEventListener("mouseleave", () => this.tell());
  }

  // Seconds, then a row of numbers (or null) for each label.
  draw(labels, time, rows) {
    const same = this.labels !== null && labels.length === this.labels.length && labels.every((label, i) => label === this.labels[i]);
    this.data = [time, ...rows];
    if (!same) {
      this.labels = labels;
      this.marks = labels.map((label, i) => {
        const value = h("b", {});
        const mark = h("span", { class: "key" }, h("i", { class: `pen pen-${(i % PENS.length) + 1}` }), label, " ", value);
        return { mark, value };
      });
      this.top = h("span", { class: "key top" });
      this.legend.replaceChildren(...this.marks.map(({ mark }) => mark), this.top);
      this.make();
    } else if (this.plot) {
      this.plot.setData(this.data);
    }
    this.tell();
  }

  // Under the cursor, or the newest.
  tell() {
    const at = this.plot?.cursor.idx ?? this.data[0].length - 1;
    this.marks?.forEach(({ value }, i) => {
      const number = this.data[i + 1][at];
      text(value, number === null || number === undefined ? "–" : this.format(number));
    });
    const ceiling = this.ceiling();
    text(this.top, ceiling === undefined ? "" : `ceiling ${this.format(ceiling)}`);
    this.place.setAttribute("aria-label", `${this.title}: ${this.legend.textContent}`);
  }
}

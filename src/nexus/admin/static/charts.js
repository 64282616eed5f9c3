// Live line charts by uPlot (vendor/): times along, one or two lines, the figures in words above.

import { h, setAttribute, setText } from "./dom.js";
import { SPAN_S } from "./series.js";

const HEIGHT = 168;
/** The least time that is shown, seconds: right after a start the charts are not all empty. */
const LEAST_S = 90;
/** Distances between the lines of the grid: such that labels need no rounding. */
const STEPS = [-1, 0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((n) => Number(`${n}e${power}`)));
const two = (number) => String(number).padStart(2, "0");
const minute = (at_s) => {
  const date = new Date(at_s * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
};
const second = (at_s) => `${minute(at_s)}:${two(new Date(at_s * 1000).getSeconds())}`;

/**
 * A chart: `lines` are `{label, tone}` (a tone is a class of base.css), `format` shows a value.
 * `update(times, columns)` gives it new data, `destroy()` ends it.
 */
export class LineChart {
  constructor({ title, lines, format }) {
    this.lines = lines;
    this.format = format;
    this.title = title;
    this.values = lines.map(() => h("span", { class: "figure", text: "–" }));
    this.marks = lines.map(({ tone }, i) => h("i", { class: `mark ${tone}${i > 0 ? " dashed" : ""}`, "aria-hidden": "true" }));
    this.when = h("span", { class: "when" });
    this.plot = h("div", { class: "plot", role: "img" });
    this.element = h("section", { class: "panel chart" },
      h("header", { class: "chart-head" },
        h("h2", { text: title }),
        this.when,
        h("ul", { class: "legend" },
          lines.map(({ label }, i) => h("li", null, this.marks[i], label, " ", this.values[i])))),
      this.plot);
    this.data = null;
    this.chart = null;
    this.resizing = new ResizeObserver(() => this.fit());
    this.resizing.observe(this.plot);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.rebuild();
    this.theme.addEventListener("change", this.recolour);
    addEventListener("nexus-theme", this.recolour);
  }

  update(times, columns) {
    this.data = [times, ...columns];
    if (this.chart) this.chart.setData(this.data);
    else this.fit();
    if (this.chart?.cursor.idx == null) this.tell(times.length - 1);
    const told = this.lines.map(({ label }, i) => `${label} ${this.format(last(columns[i]))}`);
    setAttribute(this.plot, "aria-label", `${this.title}, last five minutes. Now: ${told.join(", ")}.`);
  }

  /** Shows the figures of one point: the one under the pointer, or the newest. */
  tell(index) {
    for (const [i, node] of this.values.entries()) {
      setText(node, this.format(this.data[i + 1][index]));
    }
    const newest = index === this.data[0].length - 1;
    setText(this.when, newest ? "" : second(this.data[0][index]));
  }

  /** How much time to show: what is known, within bounds. */
  shown_s() {
    const [times, ...columns] = this.data;
    const first = times.findIndex((_, i) => columns.some((column) => column[i] !== null));
    const known_s = first < 0 ? 0 : times[times.length - 1] - times[first];
    return Math.min(SPAN_S, Math.max(LEAST_S, known_s));
  }

  fit() {
    const width = Math.floor(this.plot.clientWidth);
    if (width < 40 || this.data === null) return;
    if (this.chart === null) this.chart = new uPlot(this.options(width), this.data, this.plot);
    else if (this.chart.width !== width) this.chart.setSize({ width, height: HEIGHT });
  }

  rebuild() {
    this.chart?.destroy();
    this.chart = null;
    this.fit();
  }

  options(width) {
    const look = getComputedStyle(this.plot);
    const axis = {
      stroke: look.color,
      font: `11px ${look.fontFamily}`,
      grid: { stroke: look.outlineColor, width: 1 },
      ticks: { show: false },
    };
    return {
      width,
      height: HEIGHT,
      padding: [8, 26, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { size: 7 },
        sync: { key: "nexus" },
      },
      scales: {
        x: { range: (_chart, _low, high) => [high - this.shown_s(), high] },
        y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.15 : 1] },
      },
      axes: [
        { ...axis, size: 24, gap: 6, space: 64, incrs: [15, 30, 60, 120], values: (_chart, ticks, _axis, _space, step) => ticks.map(step < 60 ? second : minute) },
        { ...axis, size: 54, gap: 6, space: 34, incrs: STEPS, values: (_chart, ticks) => ticks.map(this.format) },
      ],
      series: [
        {},
        ...this.lines.map(({ label }, i) => {
          const stroke = getComputedStyle(this.marks[i]).color;
          return { label, stroke, width: 1.75, dash: i > 0 ? [6, 4] : undefined, points: { show: false }, spanGaps: false };
        }),
      ],
      hooks: {
        setCursor: [(chart) => this.tell(chart.cursor.idx ?? this.data[0].length - 1)],
      },
    };
  }

  destroy() {
    this.resizing.disconnect();
    this.theme.removeEventListener("change", this.recolour);
    removeEventListener("nexus-theme", this.recolour);
    this.chart?.destroy();
    this.chart = null;
  }
}

function last(column) {
  return column[column.length - 1];
}

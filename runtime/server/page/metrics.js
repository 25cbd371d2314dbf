// A model's live figures, each with its course over the last minutes as a line.

import { drawn, element, short } from "./dom.js";

const time = (seconds) => (seconds < 0.001 ? `${short(seconds * 1e6)} µs` : `${short(seconds * 1000)} ms`);

const FIGURES = [
  ["requests / s", (point) => point.rate, short],
  ["latency, p50", (point) => point.middle, time],
  ["latency, p99", (point) => point.slow, time],
  ["waiting", (point) => point.waiting, short],
  ["rows / batch", (point) => point.rows, short],
  ["errors / s", (point) => point.errors, short],
];
const STAGES = ["queue", "input", "compute", "output"];

/** The figures of one model; `update` shows them as its history tells them. */
export class Metrics {
  constructor() {
    this.tiles = element("div", { class: "metrics" });
    this.stages = element("p", { class: "quiet" });
    this.node = element(
      "section",
      { "aria-labelledby": "metrics" },
      element("h3", { id: "metrics" }, "The last two minutes"),
      this.tiles,
      this.stages,
    );
  }

  update(points) {
    this.tiles.replaceChildren(...FIGURES.map(([title, value, written]) => tile(title, points.map(value), written)));
    const last = points.findLast((point) => point.rate > 0);
    const told = last && STAGES.map((stage) => `${stage} ${time(last.stages[stage])}`).join(" · ");
    this.stages.textContent = told ? `A request's time, on average: ${told}` : "No requests in this time.";
  }
}

function tile(title, values, written) {
  const last = values.findLast((value) => value !== null);
  return element(
    "div",
    { class: "metric" },
    element("span", { class: "quiet" }, title),
    element("strong", {}, last === undefined ? "–" : written(last)),
    line(values),
  );
}

/** The values as a line from left to right, the newest at the right end; where there are none it is interrupted. */
function line(values) {
  const top = Math.max(...values.map((value) => value ?? 0), Number.MIN_VALUE);
  const pieces = [[]];
  values.forEach((value, index) => {
    if (value === null) pieces.push([]);
    else pieces.at(-1).push(`${60 - values.length + index},${(21 - (20 * value) / top).toFixed(2)}`);
  });
  // The last point stands twice, so that a piece of one point is seen as a dot.
  const lines = pieces
    .filter((piece) => piece.length)
    .map((piece) => drawn("polyline", { points: [...piece, piece.at(-1)].join(" ") }));
  return drawn("svg", { viewBox: "0 0 60 22", preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines);
}

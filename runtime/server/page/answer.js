// What a model said about an image: labels as bars, boxes and masks on the image itself, other outputs as JSON.

import { MaskLayer } from "./mask_layer.js";
import { element, percent, short } from "./dom.js";
import { colourOf } from "./palette.js";

// Smaller images are shown in larger pixels.
const TINY = 200;
const USUAL_SCORE = 0.3;
// Of more objects than this, labels would hide the image; then only the one that is pointed at has its own.
const CROWD = 20;
const SHOWN_TEXT = 10_000;

/**
 * The view of a reply; `drawnByServer` asks for the drawn picture, for images that the browser itself can't show, and
 * `tell` is given what the answer is in a line, whenever that changes.
 */
export class AnswerView {
  constructor(file, reply, drawnByServer, tell) {
    this.reply = reply;
    this.tell = tell;
    this.picture = element("div", { class: reply.width < TINY ? "picture tiny" : "picture" });
    this.told = element("div");
    this.node = element("div", { class: "answer" }, element("figure", {}, this.picture), this.told);
    this.showImage(file, drawnByServer);
    if (reply.top) this.showLabels();
    else if (reply.objects) this.showObjects();
    else if (reply.classes) this.showMask();
    else this.showOutputs();
  }

  showImage(file, drawnByServer) {
    const { width, height } = this.reply;
    if (width >= TINY) this.picture.style.maxWidth = `calc(75vh * ${width} / ${height})`;
    const url = URL.createObjectURL(file);
    const image = element("img", { src: url, alt: `the image ${file.name}`, width, height });
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    image.addEventListener("error", () => this.showDrawn(url, drawnByServer), { once: true });
    this.picture.append(image);
  }

  async showDrawn(broken, drawnByServer) {
    URL.revokeObjectURL(broken);
    const url = URL.createObjectURL(await (await drawnByServer()).blob());
    const image = element("img", { src: url, alt: "the image with the answer drawn on it" });
    image.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
    this.picture.replaceChildren(image);
  }

  showLabels() {
    const { top } = this.reply;
    this.tell(`${top[0].label}, ${percent(top[0].probability)}`);
    this.told.append(element("ol", { class: "told" }, top.map(bar)));
  }

  showObjects() {
    const score = element("input", { type: "range", id: "score", min: 0, max: 1, step: 0.01, value: USUAL_SCORE });
    const shown = element("output", { for: "score" });
    const list = element("ul", { class: "told" });
    const update = () => {
      shown.textContent = Number(score.value).toFixed(2);
      const found = this.reply.objects.filter((one) => one.score >= Number(score.value));
      this.showFound(list, found);
      this.tell(`${found.length || "no"} object${found.length === 1 ? "" : "s"} with a score of ${Number(score.value)} or more`);
    };
    score.addEventListener("input", update);
    this.told.append(element("div", { class: "slider" }, element("label", { for: "score" }, "score at least"), score, shown), list);
    update();
  }

  showFound(list, found) {
    for (const box of this.picture.querySelectorAll(".box")) box.remove();
    this.picture.classList.toggle("crowded", found.length > CROWD);
    const entries = found.map((one) => {
      const box = this.box(one);
      const light = (lit) => () => box.classList.toggle("lit", lit);
      const [left, top, right, bottom] = one.box.map(Math.round);
      const attributes = { tabindex: 0, onmouseenter: light(true), onmouseleave: light(false), onfocus: light(true), onblur: light(false) };
      const where = element("div", { class: "quiet" }, `${left}, ${top} – ${right}, ${bottom}`);
      return element("li", attributes, entry(one, one.score.toFixed(2)), where);
    });
    list.replaceChildren(...(entries.length ? entries : [element("li", { class: "quiet" }, "nothing found")]));
    // the surest lies on top
    for (const one of found.toReversed()) this.picture.append(this.boxes.get(one));
  }

  box(one) {
    this.boxes ??= new Map();
    const { width, height } = this.reply;
    const [left, top, right, bottom] = one.box;
    const box = element("div", { class: "box" }, element("span", {}, `${one.label} ${one.score.toFixed(2)}`));
    box.classList.toggle("inside", top < 0.08 * height);
    box.classList.toggle("right", left > 0.7 * width);
    const colour = colourOf(one.index);
    Object.assign(box.style, {
      left: `${(100 * left) / width}%`,
      top: `${(100 * top) / height}%`,
      width: `${(100 * (right - left)) / width}%`,
      height: `${(100 * (bottom - top)) / height}%`,
      borderColor: colour,
    });
    box.firstChild.style.backgroundColor = colour;
    this.boxes.set(one, box);
    return box;
  }

  showMask() {
    const { width, height, classes } = this.reply;
    const layer = new MaskLayer(width, height, classes);
    this.picture.append(layer.canvas);
    const entries = classes.toSorted((one, other) => other.share - one.share).map((one) => {
      const box = element("input", { type: "checkbox", onchange: () => layer.show(one.index, box.checked) });
      box.checked = layer.shows(one.index);
      return element("li", {}, element("label", { class: "line" }, element("span", {}, box, " ", swatch(one), one.label), element("span", {}, percent(one.share))));
    });
    this.told.append(element("ul", { class: "told" }, entries));
    this.tell(`${classes.length} class${classes.length === 1 ? "" : "es"} in the image`);
  }

  showOutputs() {
    const text = JSON.stringify(this.reply.outputs, null, 1);
    const more = text.length > SHOWN_TEXT ? `\n… ${short(text.length - SHOWN_TEXT)} characters more` : "";
    this.told.append(element("pre", { tabindex: 0 }, text.slice(0, SHOWN_TEXT) + more));
    this.tell(`${Object.keys(this.reply.outputs).length} outputs`);
  }
}

const swatch = (one) => {
  const square = element("span", { class: "swatch" });
  square.style.backgroundColor = colourOf(one.index);
  return square;
};

const entry = (one, value) => element("div", { class: "line" }, element("span", {}, swatch(one), one.label), element("span", {}, value));

function bar(one) {
  const filling = element("div");
  filling.style.width = `${100 * one.probability}%`;
  return element(
    "li",
    {},
    element("div", { class: "line" }, element("span", {}, one.label), element("span", {}, percent(one.probability))),
    element("div", { class: "bar", "aria-hidden": "true" }, filling),
  );
}

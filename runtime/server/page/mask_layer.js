// A mask over an image, painted from the run lengths of its classes.

import { colourOf } from "./palette.js";

const isBackground = (label) => /^_*background_*$/i.test(label);

export class MaskLayer {
  /** `classes` are of a reply, with run lengths: of pixels outside and inside in turn, column by column. */
  constructor(width, height, classes) {
    this.canvas = document.createElement("canvas");
    Object.assign(this.canvas, { width, height });
    this.context = this.canvas.getContext("2d");
    this.classes = new Map(classes.map((one) => [one.index, { runs: one.segmentation.counts, shown: !isBackground(one.label) }]));
    this.paint();
  }

  shows(index) {
    return this.classes.get(index).shown;
  }

  show(index, shown) {
    this.classes.get(index).shown = shown;
    this.paint();
  }

  paint() {
    const { width, height } = this.canvas;
    const image = this.context.createImageData(width, height);
    for (const [index, { runs, shown }] of this.classes) if (shown) paintRuns(image, runs, colourOf(index));
    this.context.putImageData(image, 0, 0);
  }
}

function paintRuns(image, runs, colour) {
  const { width, height, data } = image;
  const channels = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  let place = 0;
  runs.forEach((length, turn) => {
    for (const end = place + length; place < end; place++) {
      if (turn % 2) data.set([...channels, 255], 4 * ((place % height) * width + Math.floor(place / height)));
    }
  });
}

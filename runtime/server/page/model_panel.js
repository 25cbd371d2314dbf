// One model: what it takes and gives, its figures, and the places to ask it.

import { ask, Refused, repositoryPath } from "./api.js";
import { element, table } from "./dom.js";
import { ImagePanel } from "./image_panel.js";
import { Metrics } from "./metrics.js";
import { TensorPanel } from "./tensor_panel.js";

const ANSWERS = {
  labels: "tells what an image is of",
  objects: "finds objects in images",
  mask: "tells the class of every pixel",
  tensors: "takes and gives tensors",
};

export class ModelPanel {
  constructor(model, admin, refresh) {
    this.said = identityOf(model, admin);
    this.model = model;
    this.refresh = refresh;
    this.metrics = model.statistics ? new Metrics() : null;
    this.fault = element("p", { class: "error", role: "alert" });
    this.node = element(
      "div",
      { class: "model" },
      element("section", {}, element("h2", {}, model.name), this.about(), admin ? this.acts() : null, this.fault),
      ...(this.metrics ? [...this.asking(), this.metrics.node, this.signature()] : []),
    );
  }

  /** Whether this is the panel of the model as it is now. */
  shows(model, admin) {
    return this.said === identityOf(model, admin);
  }

  update(history) {
    this.metrics?.update(history.points);
  }

  about() {
    const { version, state, reason, statistics, device, answers } = this.model;
    const told = statistics
      ? `Version ${version} ${ANSWERS[answers]}; it runs on ${device}.`
      : `${version ? `Version ${version}: ` : ""}${state.toLowerCase()}`;
    return element("p", { class: statistics ? "quiet" : "error" }, reason ? `${told} (${reason})` : told);
  }

  acts() {
    const button = (act, title) => element("button", { type: "button", onclick: () => this.act(act) }, title);
    return element(
      "div",
      { class: "row" },
      button("load", this.model.statistics ? "Load again" : "Load"),
      this.model.statistics ? button("unload", "Unload") : null,
    );
  }

  async act(act) {
    if (act === "unload" && !confirm(`Unload ${this.model.name}, all versions? It answers nobody until it is loaded.`)) return;
    this.fault.textContent = "";
    try {
      await ask(repositoryPath(this.model, act), { method: "POST", body: "{}" });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.fault.textContent = error.message;
    }
    await this.refresh();
  }

  asking() {
    const tensors = new TensorPanel(this.model).node;
    tensors.open = !this.model.image;
    return this.model.image ? [new ImagePanel(this.model).node, tensors] : [tensors];
  }

  signature() {
    const { inputs, outputs } = this.model;
    const rows = (side, specs) => specs.map((spec) => [side, spec.name, spec.datatype, `[${spec.shape.map(written).join(", ")}]`]);
    return element(
      "section",
      { "aria-labelledby": "signature" },
      element("h3", { id: "signature" }, "What it takes and gives"),
      table(["", "name", "datatype", "shape"], [...rows("input", inputs), ...rows("output", outputs)]),
    );
  }
}

const written = (side) => (side < 0 ? "any" : String(side));

/** All that the panel says; counts change without a new panel, so that what was asked stays. */
function identityOf(model, admin) {
  const { statistics, ...told } = model;
  return JSON.stringify([told, admin]);
}

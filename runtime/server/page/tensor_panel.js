// A request in the words of the Open Inference Protocol, to be written by hand, and the reply to it.

import { ask, modelPath, Refused } from "./api.js";
import { element, short, table } from "./dom.js";

const SHOWN_NUMBERS = 64;
const SHOWN_VALUES = 6;
const SHOWN_TEXT = 20_000;
// Stand for sides of any length of which nothing is known: that of an image, where two of four sides are such, and one
// that is large enough for most networks and small enough to be quick.
const IMAGE_SIDE = 224;
const USUAL_SIDE = 64;

const size = (shape) => shape.reduce((product, side) => product * side, 1);
const nothing = { BOOL: false, BYTES: "" };

/** A request of zeros to a model; data of more than a few numbers are left out, see `filled`. */
export function example(model) {
  const inputs = model.inputs.map(({ name, datatype, example }) => {
    const isImage = example.length === 4 && example.filter((side) => side < 0).length === 2;
    const sides = example.map((side) => (side >= 0 ? side : isImage ? IMAGE_SIDE : USUAL_SIDE));
    const count = size(sides);
    return { name, datatype, shape: sides, data: count > SHOWN_NUMBERS ? [] : Array(count).fill(nothing[datatype] ?? 0) };
  });
  const lines = inputs.map((input) => `  ${JSON.stringify(input)}`);
  return `{"inputs": [\n${lines.join(",\n")}\n]}`;
}

/** The request with zeros for every tensor whose list of data is empty although its shape isn't. */
function filled(request) {
  const inputs = request.inputs?.map((input) =>
    Array.isArray(input.data) && !input.data.length && Array.isArray(input.shape)
      ? { ...input, data: Array(size(input.shape)).fill(nothing[input.datatype] ?? 0) }
      : input,
  );
  return inputs ? { ...request, inputs } : request;
}

export class TensorPanel {
  constructor(model) {
    this.model = model;
    this.text = element("textarea", { id: "tensors", spellcheck: "false", "aria-describedby": "tensors-hint" }, example(model));
    this.status = element("p", { role: "status", "aria-live": "polite" });
    this.reply = element("div");
    this.node = element(
      "details",
      {},
      element("summary", {}, "Ask it with tensors"),
      element(
        "section",
        {},
        element("label", { for: "tensors" }, "The request, as JSON of the Open Inference Protocol"),
        this.text,
        element("p", { class: "quiet", id: "tensors-hint" }, "Where the list of data is empty, zeros are sent."),
        element("div", { class: "row" }, element("button", { type: "button", class: "main", onclick: () => this.send() }, "Send"), this.status),
        this.reply,
      ),
    );
  }

  async send() {
    this.reply.replaceChildren();
    let body;
    try {
      body = JSON.stringify(filled(JSON.parse(this.text.value)));
    } catch (error) {
      this.tell(`this can't be sent: ${error.message}`, "error");
      return;
    }
    const started = performance.now();
    this.tell("asking …", "quiet");
    try {
      const response = await ask(`${modelPath(this.model)}/infer`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
      const reply = await response.json();
      this.tell(`answered in ${short(performance.now() - started)} ms`, "quiet");
      this.show(reply);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.tell(error.message, "error");
    }
  }

  tell(text, kind) {
    this.status.className = kind;
    this.status.textContent = text;
  }

  show(reply) {
    const text = JSON.stringify(reply);
    const more = text.length > SHOWN_TEXT ? ` … ${short(text.length - SHOWN_TEXT)} characters more` : "";
    this.reply.append(
      table(
        ["output", "datatype", "shape", "values"],
        reply.outputs.map(({ name, datatype, shape, data }) => [name, datatype, `[${shape.join(", ")}]`, some(data)]),
      ),
      element("details", {}, element("summary", {}, "The whole reply"), element("pre", { tabindex: 0 }, text.slice(0, SHOWN_TEXT) + more)),
    );
  }
}

function some(data) {
  const first = data.slice(0, SHOWN_VALUES).map((value) => (typeof value === "number" ? short(value) : String(value)));
  return first.join(", ") + (data.length > SHOWN_VALUES ? ` … (${short(data.length)})` : "");
}

// A place for an image: chosen, dropped or pasted, it is sent to the model, and the answer is shown on it.

import { AnswerView } from "./answer.js";
import { ask, predictPath, Refused } from "./api.js";
import { element, short } from "./dom.js";

export class ImagePanel {
  constructor(model) {
    this.model = model;
    this.asked = 0;
    this.file = element("input", { type: "file", id: "image", accept: "image/*", onchange: () => this.chosen() });
    this.status = element("p", { role: "status", "aria-live": "polite" });
    this.answer = element("div");
    this.drop = element(
      "div",
      { class: "drop", ondragover: (event) => this.over(event), ondragleave: () => this.mark(false), ondrop: (event) => this.dropped(event) },
      element("label", { for: "image" }, "Choose an image, drop one here, or paste one"),
      this.file,
    );
    this.node = element(
      "section",
      { "aria-labelledby": "asking", onpaste: (event) => this.take(event.clipboardData) },
      element("h3", { id: "asking" }, "Ask it about an image"),
      this.drop,
      this.status,
      this.answer,
    );
  }

  mark(over) {
    this.drop.classList.toggle("over", over);
  }

  over(event) {
    event.preventDefault();
    this.mark(true);
  }

  dropped(event) {
    event.preventDefault();
    this.mark(false);
    this.take(event.dataTransfer);
  }

  take(transfer) {
    if (transfer?.files.length) this.send(transfer.files[0]);
  }

  chosen() {
    if (this.file.files.length) this.send(this.file.files[0]);
  }

  /** Sends one image; of several sent in a row, only the last one's answer is shown. */
  async send(file) {
    const number = ++this.asked;
    this.status.className = "quiet";
    this.status.textContent = `asking about ${file.name} …`;
    const started = performance.now();
    let reply;
    try {
      reply = await this.post(file, "json");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (number === this.asked) this.refused(error);
      return;
    }
    if (number !== this.asked) return;
    const told = await reply.json();
    const time = short(performance.now() - started);
    const tell = (summary) => (this.status.textContent = `${file.name}: ${summary}; answered in ${time} ms`);
    this.answer.replaceChildren(new AnswerView(file, told, () => this.post(file, "png"), tell).node);
  }

  refused(error) {
    this.answer.replaceChildren();
    this.status.className = "error";
    this.status.textContent = error.message;
  }

  post(file, format) {
    const mask = this.model.answers === "mask" && format === "json" ? "&mask=rle" : "";
    const form = new FormData();
    form.append("image", file);
    return ask(`${predictPath(this.model)}?format=${format}${mask}`, { method: "POST", body: form });
  }
}

// Elements made of values. Text is only ever set as text, so that no name or label can become markup.

/** An element with attributes (`onclick`-like ones are listeners, `class`, `hidden`, …) and children, nodes or texts. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

/** A table with a head; cells are texts or nodes. */
export function table(head, rows) {
  const cells = (kind, row) => row.map((cell) => element(kind, kind === "th" ? { scope: "col" } : {}, cell));
  return element(
    "div",
    { class: "scroll" },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, cells("th", head))),
      element("tbody", {}, rows.map((row) => element("tr", {}, cells("td", row)))),
    ),
  );
}

/** A number with three significant digits, in the reader's own way of writing. */
export function short(number) {
  return number.toLocaleString(undefined, { maximumSignificantDigits: 3 });
}

/** A share in 0…1 as per cent. */
export function percent(share) {
  return share.toLocaleString(undefined, { style: "percent", maximumFractionDigits: 1 });
}

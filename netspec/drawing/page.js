// Folding in the browser: Graphviz itself lays the picture out anew.
const kit = JSON.parse(document.getElementById("kit").textContent);
const folded = new Set(kit.folded);
const picture = document.getElementById("picture");
const account = document.getElementById("account");
const containers = kit.boxes.map((_, index) => index).filter((index) => kit.boxes[index].open !== null);
const named = new Map(containers.flatMap((index) => [[kit.boxes[index].name, index], [kit.boxes[index].frame, index]]));
const graphviz = load(document.getElementById("graphviz").textContent);
graphviz.catch((error) => { account.textContent = `This browser can't fold the picture: ${error.message}`; });

// Graphviz for WASI, which here has a clock, random numbers and nothing else.
async function load(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const module = await WebAssembly.compile(await new Response(stream).arrayBuffer());
  const view = () => new DataView(instance.exports.memory.buffer);
  const given = {
    environ_get: () => 0,
    environ_sizes_get: (count, size) => (view().setUint32(count, 0, true), view().setUint32(size, 0, true), 0),
    clock_time_get: (clock, precision, at) => (view().setBigUint64(at, BigInt(Date.now()) * 1000000n, true), 0),
    random_get: (at, size) => (crypto.getRandomValues(new Uint8Array(instance.exports.memory.buffer, at, size)), 0),
    proc_exit: (code) => { throw new Error(`Graphviz ended with ${code}`); },
  };
  const badFile = () => 8;
  const wanted = WebAssembly.Module.imports(module).map(({ name }) => [name, given[name] ?? badFile]);
  const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: Object.fromEntries(wanted) });
  return instance.exports;
}

async function layOut(text) {
  const { memory, malloc, free, graphviz_render, graphviz_free, graphviz_last_error } = await graphviz;
  const put = (string) => {
    const bytes = new TextEncoder().encode(string + "\0");
    const at = malloc(bytes.length);
    new Uint8Array(memory.buffer).set(bytes, at);
    return at;
  };
  const get = (at, size) => new TextDecoder().decode(new Uint8Array(memory.buffer, at, size));
  const given = [put(text), put("svg"), put("dot"), malloc(4)];
  const at = graphviz_render(...given);
  if (!at) throw new Error(get(graphviz_last_error(), 200).split("\0")[0]);
  let svg = get(at, new DataView(memory.buffer).getUint32(given[3], true));
  graphviz_free(at);
  given.forEach((pointer) => free(pointer));
  for (const [pattern, replacement] of kit.touches) svg = svg.replace(new RegExp(pattern, "gu"), replacement);
  return new DOMParser().parseFromString(svg.slice(svg.indexOf("<svg")), "image/svg+xml").documentElement;
}

// Draws the picture as it is folded now; the box at `kept` stays where it is on the screen.
async function draw(kept) {
  const { text, shown } = compose(kit, folded);
  if (shown > kit.most) return false;
  const before = kept === undefined ? null : find(kept)?.getBoundingClientRect();
  const svg = await layOut(text);
  svg.classList.add("netspec");
  picture.replaceChildren(svg);
  prepare();
  const box = kept === undefined ? null : find(kept);
  box?.focus({ preventScroll: true });
  const after = box?.getBoundingClientRect();
  if (before && after) picture.scrollBy(after.left - before.left, after.top - before.top);
  return true;
}

const find = (index) => picture.querySelector(`[data-box="${index}"]`);

function prepare() {
  for (const group of picture.querySelectorAll("g.node, g.cluster")) {
    const index = named.get(group.querySelector("title").textContent);
    group.querySelector("title").remove(); // its place is taken by the account
    const link = group.querySelector("a");
    if (link) {
      group.dataset.account = link.getAttribute("xlink:title");
      link.removeAttribute("xlink:title");
      group.setAttribute("tabindex", "0");
    }
    if (index === undefined) continue;
    group.dataset.box = index;
    group.setAttribute("role", "button");
    group.setAttribute("aria-expanded", String(!folded.has(index)));
    group.setAttribute("aria-label", kit.boxes[index].name);
  }
}

async function toggle(index) {
  const was = folded.delete(index);
  if (!was) folded.add(index);
  else for (const box of containers) if (box !== index && under(box, index)) folded.add(box);
  if (!(await draw(index))) folded.add(index);
}

function under(box, index) {
  for (let at = box; at !== null; at = kit.boxes[at].parent) if (at === index) return true;
  return false;
}

// The number of levels that are open everywhere: where "one more" and "one less" begin.
const levels = 1 + Math.max(-1, ...containers.map((index) => kit.boxes[index].level));
const openTo = async (depth) => {
  const before = new Set(folded);
  folded.clear();
  for (const index of containers) if (kit.boxes[index].level >= depth) folded.add(index);
  if (!(await draw())) {
    folded.clear();
    before.forEach((index) => folded.add(index));
  }
};
const depthNow = () => Math.min(levels, ...[...folded].map((index) => kit.boxes[index].level));

const boxOf = (event) => event.target.closest?.("[data-box]");
picture.addEventListener("click", (event) => {
  const box = boxOf(event);
  if (box) toggle(Number(box.dataset.box));
});
picture.addEventListener("keydown", (event) => {
  const box = boxOf(event);
  if (!box || (event.key !== "Enter" && event.key !== " ")) return;
  event.preventDefault();
  toggle(Number(box.dataset.box));
});
for (const kind of ["mouseover", "focusin"]) {
  picture.addEventListener(kind, (event) => {
    account.textContent = event.target.closest("[data-account]")?.dataset.account ?? "";
  });
}
const actions = {
  none: () => openTo(0),
  less: () => openTo(Math.max(0, depthNow() - 1)),
  more: () => openTo(Math.min(levels, depthNow() + 1)),
  every: () => openTo(levels),
  fit: () => picture.classList.toggle("fit"),
};
for (const [name, action] of Object.entries(actions)) document.getElementById(name).addEventListener("click", action);
prepare();

// The text for Graphviz of a picture with some boxes folded: what `netspec.drawing.dot.write` does, from the same parts.
function compose(kit, folded) {
  const rows = [kit.header];
  const place = []; // for each box the one that it is shown in
  const write = (index, within) => {
    const box = kit.boxes[index];
    const open = within === undefined && box.open !== null && !folded.has(index);
    place[index] = within ?? index;
    if (within === undefined) rows.push(open ? box.open : box.shut);
    for (const child of box.children) write(child, open ? undefined : place[index]);
    if (open) rows.push("}");
  };
  for (const index of kit.top) write(index);

  const lines = new Map();
  const told = new Set();
  for (const [from, to, shape, skip] of kit.arrows) {
    const [source, target] = [place[from], place[to]];
    if (source === target) continue;
    const key = `${source} ${target}`;
    if (!lines.has(key)) lines.set(key, { source, target, shapes: [], skip: true });
    const line = lines.get(key);
    line.skip = line.skip && skip;
    if (told.has(`${source} ${shape}`)) continue;
    told.add(`${source} ${shape}`);
    line.shapes.push(shape);
  }
  for (const { source, target, shapes, skip } of lines.values()) {
    const look = shapes.length ? [`label=" ${shapes.join(", ")} "`] : [];
    if (skip) look.push(kit.skip);
    rows.push(`${kit.boxes[source].identity} -> ${kit.boxes[target].identity} [${look.join(", ")}]`);
  }
  return { text: [...rows, "}"].join("\n") + "\n", shown: new Set(place).size };
}

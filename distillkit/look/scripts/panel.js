// The panel of one image.

const panel = byId("panel");
let current = 0;

const figure = (canvas, caption) => {
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", caption);
  return element("figure", {}, canvas, element("figcaption", { textContent: caption }));
};

const SIGNED = "grey: no difference; lighter: this image is lighter; darker: it is darker; both doubled";

function figuresOf(image) {
  const [start, nearest] = [images.start[image], images.nearest[image]];
  const found = [];
  if (start >= 0) found.push(figure(picture("source", start), `began as training image ${images.from[image]}`));
  const became = images.learned[image] ? "became" : "training image, unchanged";
  found.push(Object.assign(figure(picture("set", image), became), { id: "panel-set" }));
  if (start >= 0) found.push(figure(difference(["set", image], ["source", start]), `moved by ${shown(images.moved[image], 3)}; ${SIGNED}`));
  if (nearest >= 0) found.push(figure(picture("source", nearest), `nearest training image, ${images.near[image]}, at ${shown(images.distance[image], 3)}`));
  const other = data.against?.other[image] ?? -1;
  if (other >= 0) {
    found.push(figure(picture("other", other), `in ${data.against.name}`));
    found.push(figure(difference(["set", image], ["other", other]), `difference to it; ${SIGNED}`));
  }
  return found;
}

function factsOf(image) {
  const found = [["kind", images.learned[image] ? "learned" : "real, unchanged"]];
  if (images.learned[image]) {
    const usual = data.yardstick === null ? "" : `; for a training image, to the nearest other one, the median is ${shown(data.yardstick, 4)}`;
    found.push(["moved, root mean square", shown(images.moved[image], 4)]);
    found.push(["to the nearest training image", shown(images.distance[image], 4) + usual]);
  }
  const harder = images.harder[image];
  found.push(["difficulty", harder === null ? "not known" : `harder than ${shown(harder, 1)}\u00a0% of its class`]);
  found.push(["source row", images.from[image] < 0 ? "none: not begun from a training image" : `${images.from[image]}`]);
  if (images.likely) {
    const shares = images.likely[image].map(([label, share]) => `${classes[label]} ${(100 * share).toFixed(1)}\u00a0%`);
    found.push(["soft label", shares.join(", ")]);
  }
  if (data.against && !data.against.why) {
    const size = data.against.rms[image] ? `, by ${shown(data.against.rms[image], 4)}` : "";
    const kind = { same: "the same", added: "only here" }[data.against.kind[image]] ?? data.against.kind[image];
    found.push([`against ${data.against.name}`, kind + size]);
  }
  return found;
}

const tableRow = (name, value) =>
  element("tr", {}, element("th", { scope: "row", textContent: name }), element("td", { textContent: value }));

function fillPanel(image) {
  current = image;
  state.image = String(images.row[image]);
  writeState();
  byId("panel-title").textContent = `Image ${images.row[image]}, class ${classes[images.label[image]]}`;
  byId("panel-pictures").replaceChildren(...figuresOf(image));
  byId("panel-facts").replaceChildren(...factsOf(image).map((pair) => tableRow(...pair)));
  byId("previous").disabled = order.indexOf(image) <= 0;
  byId("next").disabled = order.indexOf(image) === order.length - 1;
  byId("panel-snapshots").hidden = !(data.snapshots.length && images.learned[image]);
  if (!byId("panel-snapshots").hidden) showSnapshot();
}

function openPanel(image) {
  fillPanel(image);
  panel.showModal();
}

function stepBy(steps) {
  const place = order.indexOf(current) + steps;
  if (place >= 0 && place < order.length) fillPanel(order[place]);
}

function preparePanel() {
  byId("previous").addEventListener("click", () => stepBy(-1));
  byId("next").addEventListener("click", () => stepBy(1));
  byId("close").addEventListener("click", () => panel.close());
  panel.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!steps || event.target.matches("input")) return;
    event.preventDefault();
    stepBy(steps);
  });
  panel.addEventListener("close", () => {
    state.image = "";
    writeState();
    if (document.activeElement !== board) focusOn(order.indexOf(current)); // a point of the map was clicked
  });
  const slider = byId("snapshot");
  slider.max = data.snapshots.length; // after the last one comes the set itself
  slider.value = slider.max;
  slider.addEventListener("input", showSnapshot);
}

// Snapshots: the state of the image at some steps, with the loss beside it.

function showSnapshot() {
  const taken = data.snapshots[Number(byId("snapshot").value)];
  const made = taken ? picture(taken.gallery, taken.place[current]) : picture("set", current);
  const caption = taken ? `after step ${taken.step}` : "became";
  byId("panel-set").replaceChildren(...figure(made, caption).children);
  const loss = data.loss.findLast(([step]) => !taken || step <= taken.step);
  byId("snapshot-words").textContent = (taken ? caption : "at the end") + (loss ? `, loss ${loss[1].toPrecision(3)}` : "");
  byId("loss").replaceChildren(lossCurve(loss));
}

const svg = (tag, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

function lossCurve(marked) {
  if (data.loss.length < 2) return "";
  const most = Math.max(...data.loss.map(([, loss]) => loss)) || 1;
  const last = data.loss.at(-1)[0];
  const line = data.loss.map(([step, loss]) => `${(600 * step) / last},${100 - (95 * loss) / most}`).join("L");
  const curve = svg("svg", { viewBox: "0 0 600 100", preserveAspectRatio: "none", role: "img", "aria-label": "Loss by step" });
  curve.append(svg("path", { d: `M${line}` }));
  curve.append(svg("title", {}, `Loss by step, 1 to ${last}; from 0, at the bottom, to ${most.toPrecision(3)}`));
  if (marked) curve.append(svg("line", { x1: (600 * marked[0]) / last, x2: (600 * marked[0]) / last, y1: 0, y2: 100 }));
  return curve;
}

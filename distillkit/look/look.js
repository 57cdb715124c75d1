// The page of distillkit look. What comes from the set is data, and reaches the page as text and as pixels only.
// In order: the data, pictures, the state in the address, which images are shown, the grid, the panel, the map, the rest.

const data = JSON.parse(document.getElementById("data").textContent);
const { classes, images } = data;
const all = images.row.map((_, image) => image);
const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const shown = (value, digits) => (value === null || value === undefined ? "not known" : value.toFixed(digits));

// Pictures: a gallery is a list of pictures on sheets, which are decoded when the first of them is drawn.

const MOST_SHEETS = 120; // decoded at a time
const MOST_PRINTED = 5000; // images
const sheets = new Map();

function sheetAt(address) {
  let loading = sheets.get(address);
  if (!loading) {
    const inside = byId(`sheet-${address}`);
    const picture = new Image();
    picture.src = inside ? inside.textContent : address;
    loading = picture.decode().then(() => picture);
    loading.catch(() => sheets.delete(address));
  }
  sheets.delete(address);
  sheets.set(address, loading); // the latest stands last
  if (sheets.size > MOST_SHEETS) sheets.delete(sheets.keys().next().value);
  return loading;
}

async function paint(context, name, place) {
  const gallery = data.galleries[name];
  const sheet = await sheetAt(gallery.sheets[Math.floor(place / gallery.each)]);
  const { width, height, columns, each } = gallery;
  const left = (place % each % columns) * width;
  const top = Math.floor((place % each) / columns) * height;
  context.drawImage(sheet, left, top, width, height, 0, 0, width, height);
}

function emptyCanvas(name) {
  const { width, height } = data.galleries[name];
  return element("canvas", { width, height });
}

function picture(name, place) {
  const canvas = emptyCanvas(name);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true }); // in memory, as there are many
  canvas.drawn = paint(context, name, place).catch(() => canvas.classList.add("failed"));
  return canvas;
}

// |a − b| of each channel, four times as bright.
function difference([nameA, placeA], [nameB, placeB]) {
  const canvas = emptyCanvas(nameA);
  const context = canvas.getContext("2d");
  canvas.drawn = (async () => {
    await paint(context, nameA, placeA);
    context.globalCompositeOperation = "difference";
    await paint(context, nameB, placeB);
    context.globalCompositeOperation = "lighter";
    context.drawImage(canvas, 0, 0);
    context.drawImage(canvas, 0, 0);
  })().catch(() => canvas.classList.add("failed"));
  return canvas;
}

// The state: what is filtered and sorted, as strings, and in the address so that it can be linked to.

const START = {
  class: "", kind: "", harder: "", harderTo: "", moved: "", movedTo: "", differs: "",
  sort: "", down: "", together: "", size: "48", region: "", image: "",
};
let state = readState();

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = { ...START };
  for (const name of Object.keys(START)) if (given.has(name)) found[name] = given.get(name);
  return found;
}

function writeState() {
  const changed = Object.entries(state).filter(([name, value]) => value !== START[name]);
  const hash = new URLSearchParams(changed).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

// Which images are shown, in which order.

const within = (value, from, to) =>
  (from === "" && to === "") || (value !== null && !(value < Number(from || -Infinity)) && !(value > Number(to || Infinity)));

function inRegion(image) {
  if (!state.region || !data.map) return true;
  const [left, right, bottom, top] = state.region.split(",").map(Number);
  const x = data.map.x[image];
  const y = data.map.y[image];
  return x >= left && x <= right && y >= bottom && y <= top;
}

const isShown = (image) =>
  (state.class === "" || images.label[image] === Number(state.class)) &&
  (state.kind === "" || Boolean(images.learned[image]) === (state.kind === "learned")) &&
  within(images.harder[image], state.harder, state.harderTo) &&
  within(images.moved[image], state.moved, state.movedTo) &&
  (state.differs === "" || !data.against || data.against.kind[image] === state.differs) &&
  inRegion(image);

function sorted(found) {
  const column = { class: images.label, learned: images.learned }[state.sort] ?? images[state.sort] ?? images.row;
  const sign = state.down ? -1 : 1;
  const missing = (image) => column[image] === null;
  return found.sort((a, b) => missing(a) - missing(b) || sign * (column[a] - column[b]) || images.row[a] - images.row[b]);
}

let order = [];

function groups() {
  const parts = [];
  if (state.together) {
    for (let first = 0; first < order.length; first += 200) {
      const own = order.slice(first, first + 200);
      parts.push({ title: `${first + 1} to ${first + own.length}`, own, first });
    }
    return parts;
  }
  const byClass = new Map();
  for (const image of order) {
    if (!byClass.has(images.label[image])) byClass.set(images.label[image], []);
    byClass.get(images.label[image]).push(image);
  }
  const labels = [...byClass.keys()].sort((a, b) => (state.sort === "class" && state.down ? b - a : a - b));
  let first = 0;
  for (const label of labels) {
    const own = byClass.get(label);
    parts.push({ title: `${classes[label]} (${own.length})`, own, first });
    first += own.length;
  }
  order = parts.flatMap((part) => part.own);
  return parts;
}

// The grid: a group is filled when it comes near the window, and emptied when it is far away again.

const grid = byId("grid");
const NEAR = 800; // pixels beyond the window
let parts = [];
let focused = 0; // the place in the order that the keyboard is at
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) (isIntersecting ? fill : empty)(target.group);
}, { rootMargin: `${NEAR}px 0px` });

const cellSize = (name = "set") => {
  const { width, height } = data.galleries[name];
  const scale = Number(state.size) / Math.max(width, height);
  return [Math.max(8, Math.round(width * scale)), Math.max(8, Math.round(height * scale))];
};

function words(image) {
  const parts = [`Image ${images.row[image]}, class ${classes[images.label[image]]}`];
  parts.push(images.learned[image] ? "learned" : "real");
  if (images.harder[image] !== null) parts.push(`harder than ${shown(images.harder[image], 0)} % of its class`);
  if (images.learned[image] && images.moved[image] !== null) parts.push(`moved ${shown(images.moved[image], 3)}`);
  return parts.join(", ");
}

function cell(image, place) {
  const made = element("button", {
    type: "button",
    className: `cell ${images.learned[image] ? "learned" : "real"}`,
    title: words(image),
    tabIndex: place === focused ? 0 : -1,
  }, picture("set", image));
  made.setAttribute("aria-label", words(image));
  made.dataset.place = place;
  return made;
}

function fill(group) {
  if (group.filled) return;
  group.filled = true;
  group.cells.replaceChildren(...group.own.map((image, at) => cell(image, group.first + at)));
}

function empty(group) {
  if (!group.filled || group.cells.contains(document.activeElement)) return;
  group.filled = false;
  group.cells.replaceChildren();
}

// Room for the cells before they are there, so that the page does not jump.
function reserve() {
  const [width, height] = cellSize();
  document.documentElement.style.setProperty("--wide", `${width}px`);
  document.documentElement.style.setProperty("--high", `${height}px`);
  const across = Math.max(1, Math.floor((grid.clientWidth + 4) / (width + 4)));
  for (const { cells, own } of parts) cells.style.minHeight = `${Math.ceil(own.length / across) * (height + 4) - 4}px`;
}

function show() {
  writeState();
  order = sorted(all.filter(isShown));
  parts = groups();
  focused = 0;
  watcher.disconnect();
  grid.replaceChildren(...parts.map((group) => {
    group.cells = element("div", { className: "cells" });
    const section = element("section", { className: "group", group }, element("h3", { textContent: group.title }), group.cells);
    return section;
  }));
  reserve();
  const first = [...grid.children].findIndex((section) => section.getBoundingClientRect().top > innerHeight);
  parts.slice(0, first < 0 ? parts.length : first).forEach(fill); // at once; the watcher sees to the others
  for (const section of grid.children) watcher.observe(section);
  byId("count").textContent = `${order.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} images`;
  drawMap();
}

function focusOn(place) {
  focused = Math.max(0, Math.min(order.length - 1, place));
  const group = parts.find(({ own, first }) => focused < first + own.length);
  if (!group) return;
  grid.querySelector('.cell[tabindex="0"]')?.setAttribute("tabindex", "-1");
  fill(group);
  const target = group.cells.children[focused - group.first];
  target.tabIndex = 0;
  target.focus();
}

function across() {
  const cells = [...grid.querySelectorAll(".cell")];
  const top = cells[0]?.offsetTop;
  return Math.max(1, cells.findIndex((one) => one.offsetTop !== top));
}

grid.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across(), ArrowDown: across() };
  const place = { Home: 0, End: order.length - 1 }[event.key] ?? focused + (steps[event.key] ?? NaN);
  if (Number.isNaN(place) || !event.target.closest(".cell")) return;
  event.preventDefault();
  focusOn(place);
});

grid.addEventListener("click", (event) => {
  const target = event.target.closest(".cell");
  if (target) openPanel(order[Number(target.dataset.place)]);
});

// The form and the state are the same thing.

const form = byId("filters");

function fillForm() {
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") field.checked = state[field.name] !== "";
    else field.value = state[field.name];
  }
}

function readForm(event) {
  for (const field of form.elements) {
    if (field.name) state[field.name] = field.type === "checkbox" ? (field.checked ? "yes" : "") : field.value;
  }
  if (event.target.name === "size") {
    writeState();
    reserve();
  } else {
    show();
  }
}

function prepareForm() {
  form.elements.class.append(...classes.map((name, label) => element("option", { value: label, textContent: name })));
  for (const part of document.querySelectorAll("[data-needs]")) {
    part.hidden = images[part.dataset.needs].every((value) => !value); // not known, or 0 of all
  }
  for (const option of form.elements.sort.options) {
    if (["harder", "moved", "distance"].includes(option.value)) option.hidden = images[option.value].every((x) => x === null);
  }
  form.addEventListener("input", readForm);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    state = { ...START };
    fillForm();
    show();
  });
  fillForm();
}

// The panel of one image.

const panel = byId("panel");
let current = 0;

const figure = (canvas, caption) => {
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", caption);
  return element("figure", {}, canvas, element("figcaption", { textContent: caption }));
};

function figuresOf(image) {
  const [start, nearest] = [images.start[image], images.nearest[image]];
  const found = [];
  if (start >= 0) found.push(figure(picture("source", start), `began as training image ${images.from[image]}`));
  const became = images.learned[image] ? "became" : "training image, unchanged";
  found.push(Object.assign(figure(picture("set", image), became), { id: "panel-set" }));
  if (start >= 0) found.push(figure(difference(["set", image], ["source", start]), "difference, four times as bright"));
  if (nearest >= 0) found.push(figure(picture("source", nearest), `nearest training image, ${images.near[image]}`));
  const other = data.against?.other[image] ?? -1;
  if (other >= 0) {
    found.push(figure(picture("other", other), `in ${data.against.name}`));
    found.push(figure(difference(["set", image], ["other", other]), "difference to it, four times as bright"));
  }
  return found;
}

function factsOf(image) {
  const found = [
    ["class", classes[images.label[image]]],
    ["kind", images.learned[image] ? "learned" : "real, unchanged"],
    ["place in the set", `${images.row[image]}`],
    ["source row", images.from[image] < 0 ? "none: not begun from a training image" : `${images.from[image]}`],
    ["difficulty", images.harder[image] === null ? "not known" : `harder than ${shown(images.harder[image], 1)} % of its class`],
  ];
  if (images.learned[image]) {
    const usual = data.yardstick === null ? "" : `; between training images it is usually ${shown(data.yardstick, 4)}`;
    found.push(["moved, root mean square", shown(images.moved[image], 4)]);
    found.push(["to the nearest training image", shown(images.distance[image], 4) + usual]);
  }
  if (images.likely) {
    const shares = images.likely[image].map(([label, share]) => `${classes[label]} ${(100 * share).toFixed(1)} %`);
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
    focusOn(order.indexOf(current));
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

// The map.

const map = byId("map");
const board = map.querySelector("canvas");
let view = null; // from the map's numbers to pixels of the canvas; measured when the map is first drawn
let mapIsNear = false; // the window; a map that nobody sees is not drawn

function measureMap() {
  const spread = (values) => values.reduce(([low, high], x) => [Math.min(low, x), Math.max(high, x)], [Infinity, -Infinity]);
  const [left, right] = spread([...spread(data.map.x), ...spread(data.map.source.x)]);
  const [bottom, top] = spread([...spread(data.map.y), ...spread(data.map.source.y)]);
  const [wide, high] = [right - left || 1, top - bottom || 1];
  const dense = window.devicePixelRatio || 1;
  board.width = board.clientWidth * dense;
  board.height = board.clientHeight * dense;
  const edge = 10 * dense;
  const inner = [board.width - 2 * edge, board.height - 2 * edge];
  return {
    left, right, bottom, top, wide, high, dense,
    toX: (x) => edge + ((x - left) / wide) * inner[0],
    toY: (y) => edge + ((top - y) / high) * inner[1],
    fromX: (pixel) => left + ((pixel * dense - edge) / inner[0]) * wide,
    fromY: (pixel) => top - ((pixel * dense - edge) / inner[1]) * high,
  };
}

const region = () => state.region.split(",").map(Number);

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

function drawMap() {
  if (!data.map || !mapIsNear) return;
  view ??= measureMap();
  const pen = board.getContext("2d");
  const { dense, toX, toY } = view;
  pen.clearRect(0, 0, board.width, board.height);
  pen.fillStyle = colour("--real");
  pen.globalAlpha = 0.55;
  data.map.source.x.forEach((x, place) => pen.fillRect(toX(x) - dense, toY(data.map.source.y[place]) - dense, 2 * dense, 2 * dense));
  const [learned, real, visible] = [colour("--learned"), colour("--other"), new Set(order)];
  const radius = (all.length > 5000 ? 2 : 4) * dense;
  for (const image of [...all.filter((one) => !visible.has(one)), ...order]) { // what is shown lies on top
    const [x, y] = [toX(data.map.x[image]), toY(data.map.y[image])];
    pen.globalAlpha = visible.has(image) ? 1 : 0.25;
    pen.fillStyle = images.learned[image] ? learned : real;
    pen.beginPath();
    if (images.learned[image]) pen.arc(x, y, radius, 0, 7);
    else pen.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
    pen.fill();
  }
  pen.globalAlpha = 1;
  byId("map-clear").hidden = !state.region;
  byId("map-clear").textContent = `Remove the region (${order.length.toLocaleString("en")} images)`;
  if (state.region) outline(region());
}

function outline([left, right, bottom, top]) {
  const pen = board.getContext("2d");
  const { dense, toX, toY } = view;
  pen.strokeStyle = colour("--ink");
  pen.lineWidth = 2 * dense;
  pen.strokeRect(toX(left), toY(top), toX(right) - toX(left), toY(bottom) - toY(top));
}

function choose(left, right, bottom, top) {
  state.region = [left, right, bottom, top].map((value) => String(Number(value.toPrecision(4)))).join(",");
  show();
}

function clearRegion() {
  state.region = "";
  show();
}

function moveRegion(event) {
  view ??= measureMap();
  const { left, right, bottom, top, wide, high } = view;
  const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [0, 0];
  if (event.key === "Escape" && state.region) clearRegion();
  if (!x && !y) return;
  event.preventDefault();
  const [l, r, b, t] = state.region ? region() : [left + wide / 4, right - wide / 4, bottom + high / 4, top - high / 4];
  const [dx, dy] = [(x * wide) / 20, (y * high) / 20];
  if (!event.shiftKey) choose(l + dx, r + dx, b + dy, t + dy);
  else choose(l, Math.max(l, r + dx), Math.min(t, b - dy), t);
}

function prepareMap() {
  map.hidden = !data.map;
  if (!data.map) return;
  const share = data.map.share.map((part) => `${(100 * part).toFixed(0)} %`).join(" and ");
  byId("map-words").textContent =
    `Principal components of ${data.map.space} (${share} of the variance). Small grey dots: training images; ` +
    "orange circles: learned images; blue squares: real ones of the set.";
  board.setAttribute("aria-label", "Map of the set and its source");
  new IntersectionObserver(([{ isIntersecting }]) => {
    mapIsNear = isIntersecting;
    drawMap();
  }, { rootMargin: `${NEAR}px 0px` }).observe(map);
  let from = null;
  const at = (event) => [view.fromX(event.offsetX), view.fromY(event.offsetY)];
  const between = ([x, y], [toX, toY]) => [Math.min(x, toX), Math.max(x, toX), Math.min(y, toY), Math.max(y, toY)];
  board.addEventListener("pointerdown", (event) => {
    from = at(event);
    board.setPointerCapture(event.pointerId);
  });
  board.addEventListener("pointermove", (event) => {
    if (!from) return;
    drawMap();
    outline(between(from, at(event)));
  });
  board.addEventListener("pointercancel", () => {
    from = null;
    drawMap();
  });
  board.addEventListener("pointerup", (event) => {
    if (!from) return;
    const [left, right, bottom, top] = between(from, at(event));
    from = null;
    if ((right - left) * 100 > view.wide && (top - bottom) * 100 > view.high) choose(left, right, bottom, top);
    else drawMap();
  });
  board.addEventListener("keydown", moveRegion);
  byId("map-clear").addEventListener("click", clearRegion);
}

// Difficulty by tenths, classes, and the other set.

function bar(kind, share) {
  const made = element("span", { className: `bar ${kind}` });
  made.style.width = `${Math.min(100, 100 * share)}%`;
  return made;
}

function prepareTenths() {
  if (!data.tenths) return;
  const total = data.tenths.reduce((sum, { learned, real }) => sum + learned + real, 0) || 1;
  const most = Math.max(0.1, ...data.tenths.map(({ learned, real }) => (learned + real) / total));
  const rows = data.tenths.map(({ learned, real }, tenth) => {
    const choose = element("button", { type: "button", textContent: `${10 * tenth} to ${10 * tenth + 10} %` });
    choose.addEventListener("click", () => {
      Object.assign(state, { harder: String(10 * tenth), harderTo: String(tenth === 9 ? 100 : 10 * tenth + 9.999) });
      fillForm();
      show();
      byId("images").scrollIntoView();
    });
    const stacked = element("span", { className: "bars" }, bar("learned", learned / total / most), bar("real", real / total / most));
    const bars = element("td", {}, stacked, bar("even", 0.1 / most));
    const percent = `${((100 * (learned + real)) / total).toFixed(1)} %`;
    return element("tr", {}, element("th", { scope: "row" }, choose), ...[learned, real, percent].map((value) =>
      element("td", { className: "number", textContent: value })), bars);
  });
  const names = ["difficulty", "learned", "real", "share"];
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col", className: name === "difficulty" ? "" : "number", textContent: name })), element("td"));
  const words = "Where the images, or those that learned ones began as, stand in their class, from the easiest tenth to the hardest. " +
    "Orange: learned; grey: real; thin: 10 % in each, as in the source.";
  byId("tenths").replaceChildren(
    element("p", { className: "quiet", textContent: words }),
    element("div", { className: "wide" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))),
  );
}

function prepareClasses() {
  for (const place of document.querySelectorAll("[data-class]")) {
    const choose = element("button", { type: "button", textContent: place.textContent });
    choose.addEventListener("click", () => {
      state = { ...START, size: state.size, class: place.dataset.class };
      fillForm();
      show();
      byId("images").scrollIntoView();
    });
    place.replaceChildren(choose);
  }
}

function prepareAgainst() {
  const other = data.against;
  if (!other || other.why) return;
  const kinds = ["same", "changed", "relabelled", "added"];
  const count = (kind, label) => other.kind.filter((one, image) => one === kind && images.label[image] === label).length;
  const removed = (label) => other.removed.filter((place) => other.label[place] === label).length;
  const percent = (value) => (value === undefined || value === null ? "–" : (100 * value).toFixed(2));
  const rows = classes.map((name, label) => [name, ...kinds.map((kind) => count(kind, label)), removed(label),
    percent(data.rows[label].set), percent(other.accuracy?.[label])]);
  const names = ["class", "the same", "changed", "relabelled", "only here", "only there", "accuracy %, here", "there"];
  const line = (tag, cells) => element("tr", {}, ...cells.map((text, at) => element(tag, { className: at ? "number" : "", textContent: text })));
  const table = element("table", {}, element("thead", {}, line("th", names)), element("tbody", {}, ...rows.map((row) => line("td", row))));
  byId("by-class").replaceChildren(element("div", { className: "wide" }, table));
  if (!other.removed.length) return;
  const own = other.removed.slice(0, 500);
  const gone = own.map((place) => figure(picture("other", place), other.classes[other.label[place]]));
  const title = `Only in ${other.name}: ${other.removed.length}`;
  byId("removed").replaceChildren(element("h3", { textContent: title }), element("div", { className: "cells" }, ...gone));
}

// The start.

function start() {
  fillForm();
  show();
  const image = images.row.indexOf(Number(state.image));
  if (state.image !== "" && image >= 0 && !panel.open) openPanel(image);
}

byId("choices").open = innerWidth > 640; // on a phone, the pictures come first
prepareForm();
preparePanel();
prepareMap();
start();
prepareTenths();
prepareClasses();
prepareAgainst();
Promise.all([...grid.querySelectorAll(".cell canvas")].map((canvas) => canvas.drawn)).then(() => performance.mark("first-view"));
const inside = data.galleries.set.sheets.filter((address) => byId(`sheet-${address}`));
if (all.length <= MOST_PRINTED) requestIdleCallback(() => inside.forEach(sheetAt)); // ready to be printed
window.addEventListener("hashchange", () => {
  if (!location.hash.includes("=") && location.hash.length > 1) return; // a link to a part of the page
  state = readState();
  start();
  if (!panel.open) byId("images").scrollIntoView();
});
window.addEventListener("resize", () => {
  reserve();
  view = null;
  drawMap();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
window.addEventListener("beforeprint", () => {
  if (order.length <= MOST_PRINTED) parts.forEach(fill);
  mapIsNear = true;
  drawMap();
});

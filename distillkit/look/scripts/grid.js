// The state: what is filtered and sorted, as strings, and in the address so that it can be linked to.

const START = {
  class: "", kind: "", harder: "", harderTo: "", moved: "", movedTo: "", distance: "", distanceTo: "",
  differs: "",
  sort: "", down: "", together: "", size: "48", region: "", image: "", signs: "",
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
  within(images.distance[image], state.distance, state.distanceTo) &&
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
  if (images.harder[image] !== null) parts.push(`harder than ${shown(images.harder[image], 1)}\u00a0% of its class`);
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

// To the images, for people who changed from afar which of them are shown: eyes and keyboard go there together.
function reveal() {
  byId("images").scrollIntoView();
  byId("images-title").focus({ preventScroll: true });
}

function change(changed) {
  state = { ...state, ...changed };
  fillForm();
  show();
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
  } else if (event.target.name === "signs") {
    writeState();
    drawMap();
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
    change(START);
  });
  fillForm();
}

// The map.

const map = byId("map");
const board = map.querySelector("canvas");
let measured = null;
let mapIsNear = false; // the window; a map that nobody sees is not drawn
const REACH = 12; // pixels from a point that is clicked

// From the map's numbers to pixels of the canvas; measured once, when it is first needed.
const view = () => (measured ??= measureMap());

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

const style = getComputedStyle(document.documentElement); // as it is, whenever it is read
const colour = (name) => style.getPropertyValue(name);

function drawMap() {
  if (!data.map || !mapIsNear) return;
  const pen = board.getContext("2d");
  const [byClass, visible] = [state.signs === "class", new Set(order)];
  pen.clearRect(0, 0, board.width, board.height);
  pen.globalAlpha = 0.55;
  data.map.source.x.forEach((x, place) => (byClass ? drawCode : drawDot)(pen, x, data.map.source.y[place], data.map.source.label[place]));
  const rest = all.filter((one) => !visible.has(one));
  for (const image of [...rest, ...order]) { // what is shown lies on top
    pen.globalAlpha = visible.has(image) ? 1 : 0.25;
    (byClass ? drawClass : drawKind)(pen, image);
  }
  pen.globalAlpha = 1;
  for (const name of ["map-see", "map-clear"]) byId(name).hidden = !state.region;
  byId("map-see").textContent = `See the images (${order.length.toLocaleString("en")})`;
  if (state.region) outline(region());
  byId("map-words").textContent = mapWords();
  byId("map-legend").replaceChildren(...(byClass ? legend() : []));
}

function drawDot(pen, x, y) {
  pen.fillStyle = colour("--other");
  pen.fillRect(view().toX(x) - view().dense, view().toY(y) - view().dense, 2 * view().dense, 2 * view().dense);
}

function drawKind(pen, image) {
  pen.fillStyle = colour(images.learned[image] ? "--learned" : "--real");
  shape(pen, image, (all.length > 5000 ? 2 : 4) * view().dense);
  pen.fill();
}

// A circle for a learned image, a square for a real one.
function shape(pen, image, radius) {
  const [x, y] = [view().toX(data.map.x[image]), view().toY(data.map.y[image])];
  pen.beginPath();
  if (images.learned[image]) pen.arc(x, y, radius, 0, 7);
  else pen.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
}

// Signs of classes: short names stand for themselves, others by a letter, many by a number. Colours come again after
// eight classes; the sign says which it is.

const COLOURS = 8;
const LEGEND = 24; // classes
const codes = codesOf(classes);

function codesOf(names) {
  if (names.every((name) => name.length <= 2)) return names;
  return names.map((_, label) => (names.length <= 26 ? String.fromCharCode(65 + label) : String(label + 1)));
}

function drawCode(pen, x, y, label, size = 10) {
  pen.font = `${size > 10 ? "bold " : ""}${(size - codes[label].length) * view().dense}px system-ui, sans-serif`;
  [pen.textAlign, pen.textBaseline] = ["center", "middle"];
  pen.fillStyle = colour(`--class-${label % COLOURS}`);
  pen.fillText(codes[label], view().toX(x), view().toY(y));
}

function drawClass(pen, image) {
  pen.fillStyle = colour("--paper");
  pen.strokeStyle = colour(`--class-${images.label[image] % COLOURS}`);
  pen.lineWidth = 1.5 * view().dense;
  shape(pen, image, 8 * view().dense);
  pen.fill();
  pen.stroke();
  drawCode(pen, data.map.x[image], data.map.y[image], images.label[image], 12);
}

function legend() {
  const present = [...new Set(order.map((image) => images.label[image]))].sort((a, b) => a - b);
  const made = present.slice(0, LEGEND).map((label) => {
    const sign = element("b", { textContent: codes[label] });
    sign.style.color = `var(--class-${label % COLOURS})`;
    return element("span", {}, sign, codes[label] === classes[label] ? "" : ` ${classes[label]}`);
  });
  const more = present.length - LEGEND;
  if (more > 0) made.push(element("span", { textContent: `and ${more.toLocaleString("en")} classes more; a point says its class, and Class above shows one alone` }));
  return made;
}

function mapWords() {
  const share = data.map.share.map((part) => `${(100 * part).toFixed(0)}\u00a0%`).join(" and ");
  const signs = state.signs === "class"
    ? "Every sign is a class. Small ones: training images; in a circle: learned images; in a square: real ones of the set."
    : "Small blue dots: training images; orange circles: learned images; grey squares: real ones of the set.";
  return `The two directions in which ${data.map.space} vary most, to the right and up (${share} of the variance). ${signs}`;
}

function outline([left, right, bottom, top]) {
  const pen = board.getContext("2d");
  const { dense, toX, toY } = view();
  pen.strokeStyle = colour("--ink");
  pen.lineWidth = 2 * dense;
  pen.strokeRect(toX(left), toY(top), toX(right) - toX(left), toY(bottom) - toY(top));
}

function choose(left, right, bottom, top) {
  state.region = [left, right, bottom, top].map((value) => String(Number(value.toPrecision(4)))).join(",");
  show();
}

// The image whose point the pointer is at, if there is one.
function pointedAt({ offsetX, offsetY }) {
  const away = (image) => Math.hypot(view().toX(data.map.x[image]) / view().dense - offsetX, view().toY(data.map.y[image]) / view().dense - offsetY);
  const nearest = order.reduce((best, image) => (best === undefined || away(image) <= away(best) ? image : best), undefined);
  return nearest !== undefined && away(nearest) < REACH ? nearest : undefined;
}

function clearRegion() {
  state.region = "";
  show();
}

function moveRegion(event) {
  const { left, right, bottom, top, wide, high } = view();
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
  byId("map-words").textContent = mapWords();
  board.setAttribute("aria-label", "Map of the set and its source");
  new IntersectionObserver(([{ isIntersecting }]) => {
    mapIsNear = isIntersecting;
    drawMap();
  }, { rootMargin: `${NEAR}px 0px` }).observe(map);
  prepareBoard();
  byId("map-signs").addEventListener("change", readForm); // it lies outside of its form
  byId("map-see").addEventListener("click", reveal);
  byId("map-clear").addEventListener("click", clearRegion);
}

// What a pointer draws is a region; where it only clicks, an image is opened.
function prepareBoard() {
  let [from, dragged] = [null, false];
  const at = (event) => {
    return [view().fromX(event.offsetX), view().fromY(event.offsetY)];
  };
  const between = ([x, y], [toX, toY]) => [Math.min(x, toX), Math.max(x, toX), Math.min(y, toY), Math.max(y, toY)];
  board.addEventListener("pointerdown", (event) => {
    from = at(event);
    board.setPointerCapture(event.pointerId);
  });
  board.addEventListener("pointermove", (event) => {
    if (!from) {
      const image = pointedAt(event);
      board.title = image === undefined ? "" : words(image);
      return;
    }
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
    dragged = (right - left) * 100 > view().wide && (top - bottom) * 100 > view().high;
    if (dragged) choose(left, right, bottom, top);
    else drawMap();
  });
  board.addEventListener("click", (event) => {
    const image = dragged ? undefined : pointedAt(event);
    if (image !== undefined) openPanel(image);
  });
  board.addEventListener("keydown", moveRegion);
}

// The map.

const map = byId("map");
const board = map.querySelector("canvas");
let view = null; // from the map's numbers to pixels of the canvas; measured when the map is first drawn
let mapIsNear = false; // the window; a map that nobody sees is not drawn
const REACH = 12; // pixels from a point that is clicked

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
  pen.fillStyle = colour("--other");
  pen.globalAlpha = 0.55;
  data.map.source.x.forEach((x, place) => pen.fillRect(toX(x) - dense, toY(data.map.source.y[place]) - dense, 2 * dense, 2 * dense));
  const [learned, real, visible] = [colour("--learned"), colour("--real"), new Set(order)];
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
  for (const name of ["map-see", "map-clear"]) byId(name).hidden = !state.region;
  byId("map-see").textContent = `See the images (${order.length.toLocaleString("en")})`;
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

// The image whose point the pointer is at, if there is one.
function pointedAt({ offsetX, offsetY }) {
  const away = (image) => Math.hypot(view.toX(data.map.x[image]) / view.dense - offsetX, view.toY(data.map.y[image]) / view.dense - offsetY);
  const nearest = order.reduce((best, image) => (best === undefined || away(image) <= away(best) ? image : best), undefined);
  return nearest !== undefined && away(nearest) < REACH ? nearest : undefined;
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
  const share = data.map.share.map((part) => `${(100 * part).toFixed(0)}\u00a0%`).join(" and ");
  byId("map-words").textContent =
    `The two directions in which ${data.map.space} vary most, to the right and up (${share} of the variance). Small blue ` +
    "dots: training images; orange circles: learned images; grey squares: real ones of the set.";
  board.setAttribute("aria-label", "Map of the set and its source");
  new IntersectionObserver(([{ isIntersecting }]) => {
    mapIsNear = isIntersecting;
    drawMap();
  }, { rootMargin: `${NEAR}px 0px` }).observe(map);
  prepareBoard();
  byId("map-see").addEventListener("click", reveal);
  byId("map-clear").addEventListener("click", clearRegion);
}

// What a pointer draws is a region; where it only clicks, an image is opened.
function prepareBoard() {
  let [from, dragged] = [null, false];
  const at = (event) => [view.fromX(event.offsetX), view.fromY(event.offsetY)];
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
    dragged = (right - left) * 100 > view.wide && (top - bottom) * 100 > view.high;
    if (dragged) choose(left, right, bottom, top);
    else drawMap();
  });
  board.addEventListener("click", (event) => {
    const image = dragged ? undefined : pointedAt(event);
    if (image !== undefined) openPanel(image);
  });
  board.addEventListener("keydown", moveRegion);
}

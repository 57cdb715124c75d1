// The page of distillkit look. What comes from the set is data, and reaches the page as text and as pixels only.

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

// 128 + 2 (a − b) of each channel, within 0 to 255: grey where nothing changed, lighter where a is. It is composed and
// not computed, because no script may read pictures of a page that was opened as a file.
function difference(a, b) {
  const canvas = emptyCanvas(a[0]);
  canvas.drawn = (async () => {
    const [lighter, darker] = [await excess(a, b), await excess(b, a)];
    onto(darker, "darken", GREY);
    const result = canvas.getContext("2d");
    onto(result, "source-over", GREY);
    onto(result, "lighter", lighter.canvas);
    onto(result, "difference", darker.canvas); // at most 128 of 128
  })().catch(() => canvas.classList.add("failed"));
  return canvas;
}

const GREY = "#808080";

// Twice what a has more than b, max(a, b) − b; nothing where it has less.
async function excess(a, b) {
  const context = emptyCanvas(a[0]).getContext("2d");
  await paint(context, ...b);
  context.globalCompositeOperation = "lighten";
  await paint(context, ...a);
  context.globalCompositeOperation = "difference";
  await paint(context, ...b);
  onto(context, "lighter", context.canvas);
  return context;
}

// Compose a canvas or a colour with what is there.
function onto(context, operation, what) {
  context.globalCompositeOperation = operation;
  if (typeof what !== "string") return context.drawImage(what, 0, 0);
  context.fillStyle = what;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

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

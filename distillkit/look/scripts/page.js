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
    const choose = element("button", { type: "button", textContent: `${10 * tenth} to ${10 * tenth + 10}\u00a0%` });
    choose.addEventListener("click", () => {
      change({ harder: String(10 * tenth), harderTo: tenth === 9 ? "100" : `${10 * tenth + 9}.9` }); // to one decimal
      reveal();
    });
    const stacked = element("span", { className: "bars" }, bar("learned", learned / total / most), bar("real", real / total / most));
    const bars = element("td", {}, stacked, bar("even", 0.1 / most));
    const percent = `${((100 * (learned + real)) / total).toFixed(1)}\u00a0%`;
    return element("tr", {}, element("th", { scope: "row" }, choose), ...[learned, real, percent].map((value) =>
      element("td", { className: "number", textContent: value })), bars);
  });
  const names = ["difficulty", "learned", "real", "share"];
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col", className: name === "difficulty" ? "" : "number", textContent: name })), element("td"));
  const words = `${data.difficulty} The table counts the images of the set in each tenth of the source. A learned image counts ` +
    "where the training image stands that it began as. Orange: learned; grey: real; thin line: 10\u00a0%, the share of every tenth in the source.";
  byId("tenths").replaceChildren(
    element("p", { className: "quiet", textContent: words }),
    element("div", { className: "wide" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))),
  );
}

function prepareClasses() {
  for (const place of document.querySelectorAll("[data-class]")) {
    const choose = element("button", { type: "button", textContent: place.textContent });
    choose.addEventListener("click", () => {
      change({ ...START, size: state.size, signs: state.signs, class: place.dataset.class });
      reveal();
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
  if (!panel.open) reveal();
});
window.addEventListener("resize", () => {
  reserve();
  measured = null;
  drawMap();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
window.addEventListener("beforeprint", () => {
  if (order.length <= MOST_PRINTED) parts.forEach(fill);
  mapIsNear = true;
  drawMap();
});

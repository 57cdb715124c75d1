// A checkbox for each recipe shows or hides it in all plots.

for (const box of document.querySelectorAll("input[data-series]")) {
  box.addEventListener("change", () => {
    for (const part of document.querySelectorAll(`.${box.dataset.series}`)) {
      part.setAttribute("visibility", box.checked ? "visible" : "hidden");
    }
  });
}
for (const part of document.querySelectorAll(".needs-script")) part.hidden = false;

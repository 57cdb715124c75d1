"use strict";

// Tables of class "sorts": a button in each heading sorts by that column. A cell may say in data-value what it counts as.

function sortTable(table, column, down) {
  const valueOf = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number.parseFloat(text.replace("−", "-"));
    return Number.isNaN(number) || cell.classList.contains("name") ? text : number;
  };
  const isMissing = (value) => value === "–" || value === "";
  const compared = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: valueOf(row) }));
  rows.sort((a, b) => isMissing(a.value) - isMissing(b.value) || (down ? -1 : 1) * compared(a.value, b.value));
  table.tBodies[0].append(...rows.map(({ row }) => row));
  for (const heading of table.tHead.rows[0].cells) heading.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sorts")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortTable(table, column, heading.getAttribute("aria-sort") === "ascending"));
    heading.append(button);
  });
}

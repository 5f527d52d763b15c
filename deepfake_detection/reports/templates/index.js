"use strict";
// Sorting and filtering of the table of videos. Without it the page is the same table, sorted by verdict.
const table = document.getElementById("videos"), body = table.tBodies[0], said = document.getElementById("said");
const find = document.getElementById("find"), only = document.getElementById("only");

function value(row, column) {
  const cell = row.cells[column], key = cell.dataset.key;
  return key === undefined ? cell.textContent.trim().toLowerCase() : key === "" ? null : Number(key);
}

function sort(column, up) {
  const rows = [...body.rows].sort((a, b) => {
    const x = value(a, column), y = value(b, column);
    if (x === null || y === null) return (x === null) - (y === null);       // what has no number comes last either way
    const order = typeof x === "number" ? x - y : x.localeCompare(y, undefined, {numeric: true});
    return up ? order : -order;
  });
  body.append(...rows);
  for (const [i, head] of [...table.tHead.rows[0].cells].entries()) {
    if (i === column) head.setAttribute("aria-sort", up ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
  said.textContent = `Sorted by ${table.tHead.rows[0].cells[column].textContent.trim()}, ${up ? "ascending" : "descending"}.`;
}

function filter() {
  let shown = 0;
  for (const row of body.rows) {
    row.hidden = !(row.textContent.toLowerCase().includes(find.value.trim().toLowerCase()) && (!only.value || row.dataset.verdict === only.value));
    shown += !row.hidden;
  }
  said.textContent = `${shown} of ${body.rows.length} shown.`;
}

for (const [i, head] of [...table.tHead.rows[0].cells].entries()) {
  head.querySelector("button").addEventListener("click", () => sort(i, head.getAttribute("aria-sort") !== "ascending"));
}
find.addEventListener("input", filter);
only.addEventListener("change", filter);
document.getElementById("filter").hidden = false;

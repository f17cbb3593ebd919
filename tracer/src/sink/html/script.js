"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const names = table.querySelector("tr.names");
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v ?? (cell.classList.contains("n") ? undefined : cell.textContent);
  };
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en") : x - y;
  };
  const sort = (head) => {
    const up = head.getAttribute("aria-sort") === "descending";
    const text = !head.classList.contains("n");
    const first = !head.hasAttribute("aria-sort");
    const ascending = first ? text : up;
    const column = [...names.cells].indexOf(head);
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return ascending ? compare(x, y) : compare(y, x);
    });
    for (const other of names.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  };
  for (const head of names.cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }
}
const folded = () => document.querySelectorAll("details:not([open])");
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...folded()];
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of opened) one.open = false;
});
const follow = () => {
  const details = document.getElementById(location.hash.slice(1))?.closest("details");
  if (details) details.open = true;
};
addEventListener("hashchange", follow);
follow();

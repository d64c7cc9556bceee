
"use strict";
// Opens the section that a link leads to, and makes the column heads sort. Nothing needs it.
function reveal() {
  const place = document.getElementById(location.hash.slice(1));
  const section = place && place.closest("details");
  if (section) { section.open = true; place.scrollIntoView(); }
}
addEventListener("hashchange", reveal);
reveal();

const table = document.querySelector("table.results");
for (const head of table ? table.querySelectorAll("th[data-key]") : []) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" ||
      (head.getAttribute("aria-sort") === null && head.dataset.key !== "order");
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (body) => body.getAttribute("data-" + head.dataset.key);
    const bodies = [...table.tBodies].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return down ? y - x : x - y;
    });
    table.append(...bodies);
  });
}

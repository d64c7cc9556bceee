"use strict";
// Nothing needs this: it follows runs and conversations, and moves through lists and reviews by keys.

// The part of a page that changes while something is going is fetched again, and put in its place.
const live = document.querySelector("[data-live]");
const always = live && "always" in live.dataset;
// Who reads or moves inside is not disturbed.
function isUsed(part) {
  return part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
}
// Of a conversation, only those pieces are replaced that have changed.
const seen = new Map();
function swapPieces(fresh) {
  for (const piece of [...live.children]) {
    if (!fresh.querySelector("#" + piece.id)) piece.remove();
  }
  let before = null;
  for (const piece of [...fresh.children]) {
    const old = document.getElementById(piece.id);
    if (!old || seen.get(piece.id) !== piece.outerHTML) {
      seen.set(piece.id, piece.outerHTML);
      if (old && old.contains(document.activeElement) && piece.id !== "now") before = old;
      else {
        if (old) old.replaceWith(piece);
        else if (before) before.after(piece);
        else live.prepend(piece);
        before = piece;
      }
    } else before = old;
  }
}
async function follow() {
  if (document.hidden) return true;
  const reply = await fetch(live.dataset.live, { headers: { accept: "text/html" } });
  if (!reply.ok) return true;
  const part = new DOMParser().parseFromString(await reply.text(), "text/html").body;
  if ("pieces" in live.dataset) swapPieces(part);
  else if (!isUsed(live)) live.replaceChildren(...part.childNodes);
  return live.querySelector("[data-going=no]") === null;
}
function later(going) {
  const every = Number(live.dataset.every || 3000);
  setTimeout(
    () => follow().catch(() => true).then((next) => { if (next || always) later(next); }),
    going ? every : Math.max(every, 3000),
  );
}
if (live) {
  if ("pieces" in live.dataset) {
    for (const piece of live.children) seen.set(piece.id, piece.outerHTML);
  }
  later(live.querySelector("[data-going=no]") === null);
}

// "/" goes to the search, j and k along the rows of a list.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    const search = document.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll("table.list tbody th a")];
    if (!links.length) return;
    const now = links.indexOf(document.activeElement);
    const next = event.key === "j" ? Math.min(now + 1, links.length - 1) : Math.max(now - 1, 0);
    links[next].focus();
  }
});

// In a review a key does what the link, button or summary does that names it: of the explanation
// where one is, else anywhere on the page. "x" goes to the next explanation.
const cards = [...document.querySelectorAll("[data-card]")];
let current = document.querySelector("[data-current]");
function choose(card) {
  for (const other of cards) other.classList.toggle("current", other === card);
  current = card;
}
addEventListener("focusin", (event) => {
  const card = event.target.closest("[data-card]");
  if (card) choose(card);
});
addEventListener("keydown", (event) => {
  const inText = event.target.closest("input, select, textarea");
  if (inText) {
    if (event.key === "Escape") inText.blur();
    if (event.key === "Enter" && event.ctrlKey && inText.form) inText.form.requestSubmit();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === "x" && cards.length) {
    const next = cards[(cards.indexOf(current) + 1) % cards.length];
    next.focus();
    choose(next);
    return;
  }
  const named = `[data-key="${CSS.escape(event.key)}"]`;
  const does = (current && current.querySelector(named)) || [...document.querySelectorAll(named)]
    .find((one) => !one.closest("[data-card]"));
  if (!does) return;
  event.preventDefault();
  does.click();
  // at once, so that no letter of what is typed next is taken for a key
  const opened = does.closest("details[open]");
  const text = opened && opened.querySelector("textarea");
  if (text) text.focus();
});
document.addEventListener("toggle", (event) => {
  const text = event.target.open && event.target.querySelector("textarea");
  if (text) text.focus();
}, true);

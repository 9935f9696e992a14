/* The tray: pieces a visitor has collected, kept in this browser, to look for more like them.
   Without JavaScript its buttons stay hidden; "More like this" on a product's page starts the same without it. */
(() => {
  "use strict";
  document.documentElement.classList.add("has-script");
  const KEY = "vitrine-tray";
  const MOST = 50; // as many as one question may name
  const template = document.getElementById("tray");
  if (!template) return;

  const read = () => {
    try {
      const pieces = JSON.parse(localStorage.getItem(KEY));
      return Array.isArray(pieces) ? pieces.filter((piece) => piece && typeof piece.id === "string") : [];
    } catch {
      return [];
    }
  };
  const write = (pieces) => {
    try {
      localStorage.setItem(KEY, JSON.stringify(pieces.slice(0, MOST)));
    } catch {
      /* no storage here: the tray lasts as long as nothing is collected */
    }
    show();
  };

  const tray = template.content.firstElementChild.cloneNode(true);
  const list = tray.querySelector("ul");
  const link = tray.querySelector("a.button");
  const address = link.getAttribute("href");
  document.body.append(tray);

  const item = (piece) => {
    const line = template.content.querySelector("template").content.firstElementChild.cloneNode(true);
    const [turn, remove] = line.querySelectorAll("button");
    line.classList.toggle("tray__piece--unlike", Boolean(piece.unlike));
    const image = line.querySelector("img");
    if (piece.thumbnail) image.src = piece.thumbnail;
    image.alt = piece.title;
    turn.setAttribute("aria-pressed", String(Boolean(piece.unlike)));
    turn.addEventListener("click", () =>
      write(read().map((each) => (each.id === piece.id ? { ...each, unlike: !each.unlike } : each))),
    );
    remove.addEventListener("click", () => write(read().filter((each) => each.id !== piece.id)));
    for (const button of [turn, remove]) button.title = `${button.textContent.trim()}: ${piece.title}`;
    return line;
  };

  const show = () => {
    const pieces = read();
    tray.hidden = pieces.length === 0;
    document.body.classList.toggle("has-tray", pieces.length > 0);
    list.replaceChildren(...pieces.map(item));
    const query = new URLSearchParams(pieces.map((piece) => [piece.unlike ? "unlike" : "like", piece.id]));
    link.href = `${address}?${query}`;
    link.hidden = !pieces.some((piece) => !piece.unlike);
    for (const button of document.querySelectorAll("[data-collect]")) {
      button.hidden = false;
      button.setAttribute("aria-pressed", String(pieces.some((piece) => piece.id === button.dataset.collect)));
    }
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-collect]");
    if (!button) return;
    const { collect: id, title, thumbnail } = button.dataset;
    const pieces = read();
    const others = pieces.filter((piece) => piece.id !== id);
    write(others.length < pieces.length ? others : [...pieces, { id, title, thumbnail }]);
  });
  tray.querySelector("[data-empty]").addEventListener("click", () => write([]));
  for (const change of ["htmx:afterSwap", "htmx:historyRestore"]) document.addEventListener(change, show);
  window.addEventListener("storage", show); // another tab
  show();
})();

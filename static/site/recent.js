/* Recently viewed products, kept in this browser and nowhere else. Without JavaScript the row stays hidden. */
(() => {
  "use strict";
  const KEY = "vitrine-recent";
  const KEPT = 13;

  const read = () => {
    try {
      const pieces = JSON.parse(localStorage.getItem(KEY));
      return Array.isArray(pieces) ? pieces.filter((piece) => typeof piece?.id === "string" && /^\/(?!\/)/.test(piece.url)) : [];
    } catch {
      return [];
    }
  };
  const write = (pieces) => {
    try {
      localStorage.setItem(KEY, JSON.stringify(pieces.slice(0, KEPT)));
    } catch {
      /* no storage here: nothing is remembered */
    }
  };

  const show = () => {
    const row = document.querySelector("[data-recent]");
    if (!row) return;
    const here = document.querySelector("[data-viewed]")?.dataset.viewed;
    const pieces = read().filter((piece) => piece.id !== here);
    const form = row.querySelector("template").content.firstElementChild;
    const items = pieces.map((piece) => {
      const item = form.cloneNode(true);
      item.querySelector("a").href = piece.url;
      item.querySelector(".recent__title").textContent = piece.title;
      if (piece.thumbnail) item.querySelector("img").src = piece.thumbnail;
      else item.querySelector("img").remove();
      return item;
    });
    row.querySelector("ul").replaceChildren(...items);
    row.hidden = items.length === 0;
  };

  const viewed = document.querySelector("[data-viewed]");
  if (viewed) {
    const { viewed: id, title, url, thumbnail } = viewed.dataset;
    write([{ id, title, url, thumbnail }, ...read().filter((piece) => piece.id !== id)]);
  }
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".recent__forget")) return;
    write([]);
    show();
    document.getElementById("content").focus({ preventScroll: true });
  });
  for (const change of ["htmx:afterSettle", "htmx:historyRestore"]) document.addEventListener(change, show);
  window.addEventListener("pageshow", show); // the back button may bring an old page back as it was
  show();
})();

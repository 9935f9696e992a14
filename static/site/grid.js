/* What htmx leaves to do when it has swapped the grid: the search field, what stood open, the focus, the count aloud.
   Without JavaScript the same links load pages. */
(() => {
  "use strict";
  let open = [];
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("#content details[open][id]")].map((details) => details.id);
  });
  const settle = (event) => {
    const catalogue = document.querySelector("[data-search]");
    if (!catalogue) return;
    const field = document.getElementById("q");
    // Whoever goes on typing is not disturbed.
    if (event.type === "htmx:historyRestore" || document.activeElement !== field) field.value = catalogue.dataset.search;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    // A link that is still there has kept the focus (htmx, by its id); else reading goes on at the results.
    if (document.activeElement === document.body) document.getElementById("content").focus({ preventScroll: true });
    for (const link of document.querySelectorAll(".site-footer a[hreflang]")) {
      const address = new URL(link.href);
      address.searchParams.set("next", location.pathname + location.search);
      link.href = address;
    }
    const count = document.querySelector(".page-head__count");
    document.getElementById("announcement").textContent = count ? count.textContent : "";
  };
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.boosted || event.target.id === "content") settle(event);
  });
  document.addEventListener("htmx:historyRestore", settle);
  // A page that could not be fetched is loaded as the link would have: the browser says what is wrong.
  for (const trouble of ["htmx:responseError", "htmx:sendError"]) {
    document.addEventListener(trouble, (event) => {
      if (event.detail.boosted) location.assign(event.detail.pathInfo.finalRequestPath);
    });
  }
})();

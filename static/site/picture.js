/* A picture that is dropped on a page, or pasted, is searched with. */
(() => {
  "use strict";
  const address = document.querySelector("[data-picture-search]")?.href;
  if (!address) return;

  const search = async (name, value) => {
    const form = new FormData();
    form.append(name, value);
    document.body.classList.add("is-searching");
    try {
      const answer = await fetch(address, { method: "POST", body: form });
      if (answer.ok) return location.assign(answer.url);
      // What was wrong is said on the page that it is wrong on, not on another one.
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const said = page.querySelector("#trouble");
      if (!said) return location.assign(address);
      document.querySelector("#trouble")?.remove();
      document.querySelector("main").prepend(said);
      said.scrollIntoView({ block: "nearest" });
      document.body.classList.remove("is-searching");
    } catch {
      location.assign(address);
    }
  };
  const pictureOf = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));

  addEventListener("paste", (event) => {
    const file = pictureOf(event.clipboardData);
    if (file) search("image", file);
  });
  // What is dragged within this page is its own: links to be opened elsewhere, words to be edited.
  let ours = false;
  addEventListener("dragstart", () => (ours = true));
  addEventListener("dragend", () => (ours = false));
  const brings = (event) => !ours && [...event.dataTransfer.types].some((type) => ["Files", "text/uri-list"].includes(type));
  addEventListener("dragover", (event) => {
    if (brings(event) && !event.target.closest?.("input, textarea")) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!brings(event) || event.target.closest?.("input, textarea")) return;
    event.preventDefault();
    const file = pictureOf(event.dataTransfer);
    // A picture dragged over from another site comes as an address where its server lets nobody have it as a file.
    const link = event.dataTransfer.getData("text/uri-list").split(/\r?\n/).find((line) => /^https?:/.test(line));
    if (file) search("image", file);
    else if (link) search("url", link);
  });
})();

/* A picture that is dropped on a page, or pasted, is searched with. */
(() => {
  "use strict";
  const address = document.querySelector("[data-picture-search]")?.href;
  if (!address) return;

  const search = async (file) => {
    const form = new FormData();
    form.append("image", file);
    document.body.classList.add("is-searching");
    try {
      const answer = await fetch(address, { method: "POST", body: form });
      if (answer.ok) location.assign(answer.url);
      else location.assign(address);
    } catch {
      document.body.classList.remove("is-searching");
    }
  };
  const pictureOf = (transfer) => [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));

  addEventListener("paste", (event) => {
    const file = pictureOf(event.clipboardData);
    if (file) search(file);
  });
  addEventListener("dragover", (event) => {
    if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    const file = pictureOf(event.dataTransfer);
    if (!file) return;
    event.preventDefault();
    search(file);
  });
})();

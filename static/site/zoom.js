/* The product's picture as large as the window, and larger. Without JavaScript its link opens the full picture. */
(() => {
  "use strict";
  const words = document.querySelector("[data-zoom]")?.dataset;
  if (!words || !window.HTMLDialogElement) return;

  const dialog = document.createElement("dialog");
  dialog.className = "zoom";
  const stage = document.createElement("button"); // Enter and Space work, arrows scroll
  stage.type = "button";
  stage.className = "zoom__stage";
  stage.setAttribute("aria-pressed", "false");
  stage.setAttribute("aria-label", words.larger);
  const picture = new Image();
  picture.alt = "";
  stage.append(picture);
  const close = document.createElement("button");
  close.type = "button";
  close.className = "zoom__close";
  close.setAttribute("aria-label", words.close);
  dialog.append(stage, close);

  const enlarge = (larger, x = 0.5, y = 0.5) => {
    dialog.classList.toggle("zoom--larger", larger);
    stage.setAttribute("aria-pressed", String(larger));
    dialog.scrollTo((dialog.scrollWidth - dialog.clientWidth) * x, (dialog.scrollHeight - dialog.clientHeight) * y);
  };
  // Of the document, as the back button may bring another copy of the link.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-zoom]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    picture.src = link.href;
    dialog.setAttribute("aria-label", link.querySelector("img").alt);
    if (!dialog.isConnected) document.body.append(dialog);
    dialog.showModal();
    enlarge(false);
    stage.focus();
  });
  stage.addEventListener("click", (event) => {
    // Where it was clicked stays in sight; by keyboard, the middle.
    const { left, top, width, height } = stage.getBoundingClientRect();
    const [x, y] = event.detail ? [(event.clientX - left) / width, (event.clientY - top) / height] : [0.5, 0.5];
    enlarge(!dialog.classList.contains("zoom--larger"), x, y);
  });
  close.addEventListener("click", () => dialog.close());
})();

/* The product's picture as large as the window, and larger. Without JavaScript its link opens the full picture. */
(() => {
  "use strict";
  const link = document.querySelector("[data-zoom]");
  if (!link || !window.HTMLDialogElement) return;
  const small = link.querySelector("img");

  const dialog = document.createElement("dialog");
  dialog.className = "zoom";
  dialog.setAttribute("aria-label", small.alt);
  const stage = document.createElement("button"); // Enter and Space work, arrows scroll
  stage.type = "button";
  stage.className = "zoom__stage";
  stage.setAttribute("aria-pressed", "false");
  stage.setAttribute("aria-label", link.dataset.larger);
  const picture = new Image(small.width, small.height);
  picture.alt = "";
  stage.append(picture);
  const close = document.createElement("button");
  close.type = "button";
  close.className = "zoom__close";
  close.setAttribute("aria-label", link.dataset.close);
  dialog.append(stage, close);

  const enlarge = (larger, x = 0.5, y = 0.5) => {
    dialog.classList.toggle("zoom--larger", larger);
    stage.setAttribute("aria-pressed", String(larger));
    dialog.scrollTo((dialog.scrollWidth - dialog.clientWidth) * x, (dialog.scrollHeight - dialog.clientHeight) * y);
  };
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    picture.src = link.href;
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

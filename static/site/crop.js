/* The box over a picture that is searched with: drawn, moved and resized by pointer or by keyboard. */
(() => {
  "use strict";
  const LEAST = 0.05;
  const STEP = 0.02;
  for (const figure of document.querySelectorAll("[data-crop]")) {
    const box = figure.querySelector(".crop__box");
    const input = figure.closest("form").elements.crop;
    const given = input.value.split(",").map(Number);
    let [left, top, width, height] = given.length === 4 ? given : [0, 0, 1, 1];

    const place = () => {
      Object.assign(box.style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * width}%`, height: `${100 * height}%` });
    };
    let waiting;
    const changed = () => {
      place();
      const whole = left < 0.005 && top < 0.005 && width > 0.99 && height > 0.99;
      const value = whole ? "" : [left, top, width, height].map((side) => side.toFixed(3)).join(",");
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        if (value === input.value) return;
        input.value = value;
        input.dispatchEvent(new Event("change", { bubbles: true }));
      }, 250);
    };
    const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
    const move = (x, y) => {
      left = clamp(x, 0, 1 - width);
      top = clamp(y, 0, 1 - height);
    };
    const resize = (w, h) => {
      width = clamp(w, LEAST, 1 - left);
      height = clamp(h, LEAST, 1 - top);
    };

    box.addEventListener("keydown", (event) => {
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
      if (!x && !y) return;
      event.preventDefault();
      if (event.shiftKey) resize(width + x * STEP, height + y * STEP);
      else move(left + x * STEP, top + y * STEP);
      changed();
    });

    /* A press near the box's lower right corner resizes it, one within it moves it, one elsewhere draws another. */
    figure.addEventListener("pointerdown", (event) => {
      const frame = figure.getBoundingClientRect();
      const at = (pointer) => [(pointer.clientX - frame.left) / frame.width, (pointer.clientY - frame.top) / frame.height];
      const [x, y] = at(event);
      const near = 22 / frame.width;
      const atCorner = Math.abs(x - left - width) < near && Math.abs(y - top - height) < near;
      const whole = width > 0.99 && height > 0.99;
      const inside = !whole && x > left && x < left + width && y > top && y < top + height;
      const from = { left, top };
      const drag = (pointer) => {
        const [px, py] = at(pointer);
        if (atCorner) resize(px - left, py - top);
        else if (inside) move(from.left + px - x, from.top + py - y);
        else {
          const [a, b] = [clamp(Math.min(x, px), 0, 1 - LEAST), clamp(Math.min(y, py), 0, 1 - LEAST)];
          [left, top] = [a, b];
          resize(Math.abs(px - x), Math.abs(py - y));
        }
        place();
      };
      const end = () => {
        figure.removeEventListener("pointermove", drag);
        changed();
      };
      figure.setPointerCapture(event.pointerId);
      figure.addEventListener("pointermove", drag);
      figure.addEventListener("pointerup", end, { once: true });
      figure.addEventListener("pointercancel", end, { once: true });
      box.focus({ preventScroll: true });
    });

    box.hidden = false;
    place();
  }
})();

/* The map of the catalogue: a canvas that draws tiles of the sprite sheets, so that its work depends on what is in view
   and not on how many products there are. Near by, products' own thumbnails take the place of the sprites.

   Places are in cells: a cell is 3 × 4 units, and `view.unit` says how many CSS pixels a unit has. */
(() => {
  "use strict";
  const CELL_W = 3, CELL_H = 4;
  const UNITS = [1, 2, 4, 8, 16]; // pixels a unit in the sheets
  const TILE_W = 384, TILE_H = 512;
  const NEAREST = 16;
  const BLOCK = TILE_W / CELL_W / NEAREST; // cells across a tile of the nearest size
  const MOST_UNIT = 80;
  const MOST_TILES = 120, MOST_THUMBNAILS = 160, AT_ONCE = 8;
  const MARKS_FROM = 5; // units: from here on a colour is a bar below the picture, not a veil over it
  const PER_CELL = 4, MOST_POINTS = 64; // of an area, as similarity/maps/areas.py has them
  const LEGEND = 12;
  const PALETTE = ["#2f7ed8", "#e8792b", "#3f9b4f", "#c5322d", "#8a5cc0", "#8c5a3c", "#e377c2", "#17a2b8", "#c9a800", "#3b4ba8", "#7fb800", "#00806b"];
  const OTHER = "#8b8d90";
  const STEP = 0.12;
  const CLICK_AFTER_TAP_MS = 500;

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const slug = (text) => text.normalize("NFKD").replace(/[^\w\s-]/g, "").trim().toLowerCase().replace(/[-\s]+/g, "-");
  const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

  /* The same operations in the same order as Polygon.holds on the server: the count is the grid's. */
  const holds = (points, column, row) => {
    const x = column * PER_CELL + PER_CELL / 2, y = row * PER_CELL + PER_CELL / 2;
    let inside = false;
    for (let at = 0, before = points.length - 1; at < points.length; before = at++) {
      const [x1, y1] = points[at], [x2, y2] = points[before];
      if (y1 !== y2 && y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
    }
    return inside;
  };

  /* Douglas and Peucker's: the fewest points within a distance, doubled until they are few enough. */
  const simplified = (points) => {
    const keep = (from, to, distance, kept) => {
      let furthest = 0, place = 0;
      const [ax, ay] = points[from], [bx, by] = points[to];
      const length = Math.hypot(bx - ax, by - ay);
      for (let at = from + 1; at < to; at++) {
        const [x, y] = points[at];
        const off = length ? Math.abs((bx - ax) * (ay - y) - (ax - x) * (by - ay)) / length : Math.hypot(x - ax, y - ay);
        if (off > furthest) [furthest, place] = [off, at];
      }
      if (furthest <= distance) return;
      keep(from, place, distance, kept);
      kept.push(place);
      keep(place, to, distance, kept);
    };
    for (let distance = 0.5; ; distance *= 1.6) {
      const kept = [];
      keep(0, points.length - 1, distance, kept);
      if (kept.length + 2 <= MOST_POINTS) return [0, ...kept, points.length - 1].map((at) => points[at]);
    }
  };

  const parsePlaces = (buffer) => {
    const length = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const numbers = new Uint16Array(buffer, 4 + length);
    const { columns, rows, count } = head;
    const at = new Int32Array(columns * rows).fill(-1); // which picture lies in a cell
    for (let place = 0; place < count; place++) at[numbers[2 * place + 1] * columns + numbers[2 * place]] = place;
    const labels = new Map(head.labels.map((label, place) => {
      const codes = numbers.subarray((2 + place) * count, (3 + place) * count);
      const counts = new Array(label.values.length + 1).fill(0);
      for (const code of codes) counts[code]++;
      return [label.name, { values: label.values, codes, counts }];
    }));
    const tiles = new Set(); // those that show something
    for (const unit of UNITS) {
      const across = TILE_W / CELL_W / unit;
      for (let place = 0; place < count; place++) {
        tiles.add(`${unit}/${Math.floor(numbers[2 * place] / across)}/${Math.floor(numbers[2 * place + 1] / across)}`);
      }
    }
    return { key: head.map, columns, rows, count, cells: numbers.subarray(0, 2 * count), at, labels, tiles };
  };

  const start = (root) => {
    const find = (selector) => root.querySelector(selector);
    const words = root.dataset;
    const canvas = find("canvas"), stage = find(".map__stage");
    const context = canvas.getContext("2d");
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    const view = { x: 0, y: 0, unit: 1 };
    let places = null;
    let width = 0, height = 0, ratio = 1; // of the canvas, in CSS pixels; and device pixels in one
    let ink = "#000", paper = "#fff", accent = "#080";
    let hovered = -1, focused = -1;
    let lasso = null, area = null; // the points being drawn, in quarters of a cell; those that were
    let label = null, colours = [], chosen = new Set(), veil = null;
    let due = 0;
    const fetched = new AbortController();

    const say = (text) => { find("[data-said]").textContent = text; };
    const counted = (number) => (number === 0 ? words.none : number === 1 ? words.one : words.many.replace("{n}", number.toLocaleString(document.documentElement.lang)));

    // --- places -----------------------------------------------------------------------------
    const cellW = () => CELL_W * view.unit, cellH = () => CELL_H * view.unit;
    const toScreen = (column, row) => [(column - view.x) * cellW() + width / 2, (row - view.y) * cellH() + height / 2];
    const toCell = (x, y) => [(x - width / 2) / cellW() + view.x, (y - height / 2) / cellH() + view.y];
    const wholeUnit = () => Math.min(width / (places.columns * CELL_W), height / (places.rows * CELL_H));
    const inView = () => {
      const [left, top] = toCell(0, 0), [right, bottom] = toCell(width, height);
      return [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top)), Math.min(places.columns, Math.ceil(right)), Math.min(places.rows, Math.ceil(bottom))];
    };
    const pictureAt = (column, row) =>
      column >= 0 && row >= 0 && column < places.columns && row < places.rows ? places.at[row * places.columns + column] : -1;
    const under = (x, y) => {
      const [column, row] = toCell(x, y).map(Math.floor);
      return pictureAt(column, row);
    };
    const cellOf = (picture) => [places.cells[2 * picture], places.cells[2 * picture + 1]];
    /* The picture nearest to the middle of the view, looked for in growing squares. */
    const middle = () => {
      const column = Math.floor(view.x), row = Math.floor(view.y);
      const least = Math.max(width / cellW(), height / cellH()) / 2;
      for (let ring = 0; ring <= least; ring++) {
        let best = -1, nearest = Infinity;
        for (let y = row - ring; y <= row + ring; y++) {
          const step = Math.abs(y - row) === ring ? 1 : 2 * ring || 1;
          for (let x = column - ring; x <= column + ring; x += step) {
            const picture = pictureAt(x, y);
            const distance = Math.hypot((x + 0.5 - view.x) * CELL_W, (y + 0.5 - view.y) * CELL_H);
            if (picture >= 0 && distance < nearest) [best, nearest] = [picture, distance];
          }
        }
        if (best >= 0) return best;
      }
      return -1;
    };

    // --- tiles and thumbnails: fetched as the view asks, the latest view first ------------------
    const tiles = new Map(), thumbnails = new Map(), blocks = new Map();
    let loading = 0, wanted = [];
    const store = (kept, most, name, value) => {
      kept.delete(name);
      kept.set(name, value);
      if (kept.size > most) kept.delete(kept.keys().next().value);
    };
    const load = (kept, most, name, address) => {
      loading++;
      const image = new Image();
      image.src = address;
      store(kept, most, name, null);
      image.decode().then(() => store(kept, most, name, image), () => {}).finally(() => {
        loading--;
        redraw();
      });
    };
    const fill = () => {
      while (loading < AT_ONCE && wanted.length) {
        const [kept, most, name, address] = wanted.shift();
        if (!kept.has(name)) load(kept, most, name, address);
      }
    };
    const tile = (unit, x, y) => {
      const name = `${unit}/${x}/${y}`;
      const image = tiles.get(name);
      if (image) store(tiles, MOST_TILES, name, image); // used last: dropped last
      else if (image === undefined && places.tiles.has(name)) wanted.push([tiles, MOST_TILES, name, `${words.base}${places.key}/tiles/${name}.webp`]);
      return image;
    };
    /* What is known of the products around a cell: asked for a tile's worth at once. */
    const block = (column, row) => {
      const name = `${Math.floor(column / BLOCK)}/${Math.floor(row / BLOCK)}`;
      if (!blocks.has(name)) {
        const known = { products: null };
        known.ready = fetch(`${words.base}${places.key}/products/${name}.json`, { signal: fetched.signal })
          .then((answer) => (answer.ok ? answer.json() : { products: [] }))
          .then(({ products }) => {
            known.products = new Map(products.map((product) => [product.y * places.columns + product.x, product]));
            redraw();
          })
          .catch(() => { blocks.delete(name); }); // no connection, asked again when it is next needed
        store(blocks, 400, name, known);
      }
      return blocks.get(name);
    };
    const known = (picture) => {
      const [column, row] = cellOf(picture);
      return block(column, row).products?.get(row * places.columns + column);
    };
    const learned = async (picture) => {
      await block(...cellOf(picture)).ready;
      return known(picture);
    };

    // --- drawing ------------------------------------------------------------------------------
    const drawTiles = () => {
      const sharp = view.unit * ratio * 0.75;
      const unit = UNITS.find((each) => each >= sharp) ?? NEAREST;
      const across = TILE_W / CELL_W / unit;
      const [left, top, right, bottom] = inView();
      context.imageSmoothingEnabled = true;
      const shown = [];
      for (let y = Math.floor(top / across); y * across < bottom; y++) {
        for (let x = Math.floor(left / across); x * across < right; x++) {
          if (!places.tiles.has(`${unit}/${x}/${y}`)) continue;
          const image = tile(unit, x, y);
          const [sx, sy] = toScreen(x * across, y * across);
          const w = across * cellW(), h = across * cellH();
          if (image) context.drawImage(image, sx, sy, w, h);
          else shown.push([x, y, sx, sy, w, h]);
        }
      }
      // Until a tile is there, the part of a coarser one that shows the same.
      for (const [x, y, sx, sy, w, h] of shown) {
        for (let size = unit / 2, shift = 1; size >= 1; size /= 2, shift++) {
          const image = tiles.get(`${size}/${x >> shift}/${y >> shift}`);
          if (!image) continue;
          const part = 1 << shift;
          context.drawImage(image, ((x % part) * TILE_W) / part, ((y % part) * TILE_H) / part, TILE_W / part, TILE_H / part, sx, sy, w, h);
          break;
        }
      }
    };
    const drawThumbnails = () => {
      if (view.unit * ratio < 1.4 * NEAREST) return;
      const [left, top, right, bottom] = inView();
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) {
          const picture = pictureAt(column, row);
          const address = picture >= 0 && known(picture)?.thumbnail;
          if (!address) continue;
          const image = thumbnails.get(address);
          if (image === undefined) wanted.push([thumbnails, MOST_THUMBNAILS, address, address]);
          if (!image) continue;
          store(thumbnails, MOST_THUMBNAILS, address, image);
          const [x, y] = toScreen(column, row);
          const w = cellW() * (1 - 2 / 48), h = cellH() * (1 - 2 / 64);
          const scale = Math.min(w / image.width, h / image.height);
          const [iw, ih] = [image.width * scale, image.height * scale];
          context.clearRect(x, y, cellW(), cellH());
          context.drawImage(image, x + (cellW() - iw) / 2, y + (cellH() - ih) / 2, iw, ih);
        }
      }
    };
    /* Colours and what is dimmed: far away one pixel a cell, drawn at once; near by a bar below each picture. */
    const drawMarks = () => {
      if (!label) return;
      const near = view.unit >= MARKS_FROM;
      const [x, y] = toScreen(0, 0);
      context.imageSmoothingEnabled = false;
      const sheet = near ? veil.dimmed : veil.coloured;
      if (sheet) context.drawImage(sheet, x, y, places.columns * cellW(), places.rows * cellH());
      if (!near) return;
      const [left, top, right, bottom] = inView();
      const bar = Math.max(2, cellH() * 0.06);
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) {
          const picture = pictureAt(column, row);
          if (picture < 0 || dimmed(picture)) continue;
          const [sx, sy] = toScreen(column, row);
          context.fillStyle = colours[label.codes[picture]];
          context.fillRect(sx + cellW() * 0.06, sy + cellH() - bar, cellW() * 0.88, bar);
        }
      }
    };
    const drawRing = (picture, colour) => {
      if (picture < 0) return;
      const [x, y] = toScreen(...cellOf(picture));
      const room = Math.max(0, 10 - cellW()) / 2; // a picture of few pixels is ringed at a distance
      context.lineWidth = 4;
      context.strokeStyle = paper;
      context.strokeRect(x - room - 1, y - room - 1, cellW() + 2 * room + 2, cellH() + 2 * room + 2);
      context.lineWidth = 2;
      context.strokeStyle = colour;
      context.strokeRect(x - room - 1, y - room - 1, cellW() + 2 * room + 2, cellH() + 2 * room + 2);
    };
    const drawOutline = (points, closed) => {
      if (!points?.length) return;
      context.beginPath();
      for (const [x, y] of points) context.lineTo(...toScreen(x / PER_CELL, y / PER_CELL));
      if (closed) context.closePath();
      context.fillStyle = accent;
      context.globalAlpha = 0.14;
      context.fill();
      context.globalAlpha = 1;
      context.lineJoin = "round";
      for (const [line, colour] of [[5, paper], [2.5, accent]]) {
        context.lineWidth = line;
        context.strokeStyle = colour;
        context.stroke();
      }
    };
    const draw = () => {
      due = 0;
      if (!places || !canvas.isConnected) return;
      wanted = [];
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      drawTiles();
      drawThumbnails();
      drawMarks();
      drawOutline(area, true);
      drawOutline(lasso, false);
      if (document.activeElement === canvas) drawRing(focused, accent);
      drawRing(hovered, ink);
      fill();
      root.toggleAttribute("data-drawn", !loading && !wanted.length);
    };
    const redraw = () => { due ||= requestAnimationFrame(draw); };

    // --- the view -----------------------------------------------------------------------------
    let settling = 0;
    const moved = () => {
      view.unit = clamp(view.unit, 0.6 * wholeUnit(), MOST_UNIT);
      view.x = clamp(view.x, 0, places.columns);
      view.y = clamp(view.y, 0, places.rows);
      focused = middle();
      redraw();
      clearTimeout(settling);
      settling = setTimeout(settled, 200);
    };
    const settled = () => {
      if (!canvas.isConnected) return;
      const [left, top, right, bottom] = inView();
      let count = 0;
      for (let row = top; row < bottom; row++) for (let column = left; column < right; column++) if (pictureAt(column, row) >= 0) count++;
      const link = find("[data-in-view]");
      link.href = gridOf(rectangle(left, top, right, bottom));
      link.toggleAttribute("hidden", !count);
      find("[data-in-view-count]").textContent = `(${count.toLocaleString(document.documentElement.lang)})`;
      const at = [view.x, view.y, view.unit].map((value) => value.toFixed(2)).join(",");
      history.replaceState(history.state, "", `${location.pathname}${location.search}#${at}${label ? `,${find("[data-by]").value}` : ""}`);
      if (document.activeElement === canvas && canvas.matches(":focus-visible")) tell();
    };
    const rectangle = (left, top, right, bottom) => [[left, top], [right, top], [right, bottom], [left, bottom]].map((point) => point.map((side) => side * PER_CELL));
    const areaText = (points) => [places.key, ...points.flat()].join("-");
    const gridOf = (points) => `${words.grid}?area=${areaText(points)}`;

    let moving = 0;
    /* To a view in a sixth of a second; at once for those who want no motion. */
    const go = (x, y, unit) => {
      cancelAnimationFrame(moving);
      const from = { ...view }, began = performance.now();
      const frame = (now) => {
        const part = calm.matches ? 1 : clamp((now - began) / 160, 0, 1);
        const eased = 1 - (1 - part) ** 3;
        view.unit = from.unit * (unit / from.unit) ** eased;
        view.x = from.x + (x - from.x) * eased;
        view.y = from.y + (y - from.y) * eased;
        moved();
        if (part < 1) moving = requestAnimationFrame(frame);
      };
      if (calm.matches) frame(began);
      else moving = requestAnimationFrame(frame);
    };
    const whole = () => go(places.columns / 2, places.rows / 2, wholeUnit());
    /* What lies under (x, y) stays there. */
    const zoomAt = (factor, x, y) => {
      const [column, row] = toCell(x, y);
      const unit = clamp(view.unit * factor, 0.6 * wholeUnit(), MOST_UNIT);
      view.x = column - (x - width / 2) / (CELL_W * unit);
      view.y = row - (y - height / 2) / (CELL_H * unit);
      view.unit = unit;
      moved();
    };
    const zoomBy = (factor) => {
      const unit = clamp(view.unit * factor, 0.6 * wholeUnit(), MOST_UNIT);
      go(view.x, view.y, unit);
    };
    const measure = () => {
      const box = canvas.getBoundingClientRect();
      if (!box.width) return;
      const fitted = places && Math.abs(view.unit / wholeUnit() - 1) < 0.01;
      [width, height, ratio] = [box.width, box.height, devicePixelRatio || 1];
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      const style = getComputedStyle(root);
      [ink, paper, accent] = ["--ink", "--paper", "--accent"].map((name) => style.getPropertyValue(name).trim());
      if (!places) return;
      if (fitted) view.unit = wholeUnit();
      moved();
    };

    // --- the picture that is pointed at, or in the middle ---------------------------------------
    const card = find("[data-card]");
    let telling = 0;
    const show = (picture, aloud) => {
      clearTimeout(telling);
      if (picture < 0) { card.hidden = true; return; }
      const fillCard = (product) => {
        if (!product) return;
        card.href = product.url;
        find("[data-card-title]").textContent = product.title;
        find("[data-card-note]").textContent = product.note;
        const image = card.querySelector("img");
        image.hidden = !product.thumbnail;
        if (product.thumbnail && image.getAttribute("src") !== product.thumbnail) image.src = product.thumbnail;
        card.hidden = false;
        if (aloud) say(`${product.title}. ${product.note}`);
      };
      const asked = () => learned(picture).then((product) => {
        if ((hovered >= 0 ? hovered : focused) === picture) fillCard(product);
      });
      const [column, row] = cellOf(picture);
      if (blocks.get(`${Math.floor(column / BLOCK)}/${Math.floor(row / BLOCK)}`)?.products) fillCard(known(picture));
      else telling = setTimeout(asked, 60); // a pointer that only passes asks for nothing
    };
    const tell = () => { if (hovered < 0) show(focused, true); };
    const hover = (picture) => {
      if (picture === hovered) return;
      hovered = picture;
      canvas.classList.toggle("map__canvas--over", picture >= 0);
      show(picture, false);
      redraw();
    };
    const open = async (picture) => {
      if (picture < 0) return;
      const product = await learned(picture);
      if (!product) return;
      clearTimeout(settling);
      settled();
      location.assign(product.url);
    };

    // --- the lasso ----------------------------------------------------------------------------
    const lassoButton = find("[data-lasso]");
    const lassoing = () => lassoButton.getAttribute("aria-pressed") === "true";
    const setLasso = (on) => {
      lassoButton.setAttribute("aria-pressed", String(on));
      canvas.classList.toggle("map__canvas--lasso", on);
      lasso = null;
      redraw();
    };
    const quarters = (x, y) => {
      const [column, row] = toCell(x, y);
      return [clamp(Math.round(column * PER_CELL), 0, places.columns * PER_CELL), clamp(Math.round(row * PER_CELL), 0, places.rows * PER_CELL)];
    };
    const showArea = (points) => {
      area = points;
      const line = find("[data-area]");
      line.hidden = !points;
      redraw();
      if (!points) return;
      let count = 0;
      for (let place = 0; place < places.count; place++) if (holds(points, ...cellOf(place))) count++;
      find("[data-area-count]").textContent = counted(count);
      const link = find("[data-area-link]");
      link.href = gridOf(points);
      link.hidden = !count;
      say(counted(count));
    };
    const closeLasso = () => {
      const points = lasso ?? [];
      setLasso(false);
      if (points.length < 3) return;
      showArea(simplified(points));
      find("[data-area-link]").focus({ preventScroll: true });
    };

    // --- colours ------------------------------------------------------------------------------
    const dimmed = (picture) => chosen.size > 0 && !chosen.has(legendOf(label.codes[picture]));
    /* Which line of the legend a value belongs to: its own, or that of the others. */
    const legendOf = (code) => (code >= 1 && code <= LEGEND ? code : code === 0 ? 0 : LEGEND + 1);
    const swatchOf = (name, value, place) => {
      if (name !== "colour") return PALETTE[place % PALETTE.length];
      const probe = document.createElement("span");
      probe.dataset.swatch = slug(value);
      root.append(probe);
      const swatch = getComputedStyle(probe).getPropertyValue("--swatch").match(/#[0-9a-f]{3,6}/i)?.[0];
      probe.remove();
      return swatch ? (swatch.length === 4 ? swatch.replace(/[0-9a-f]/gi, "$&$&") : swatch) : OTHER;
    };
    const paintVeils = () => {
      const sheets = {};
      for (const name of ["coloured", "dimmed"]) {
        if (name === "dimmed" && !chosen.size) continue;
        const sheet = document.createElement("canvas");
        [sheet.width, sheet.height] = [places.columns, places.rows];
        const brush = sheet.getContext("2d");
        const pixels = brush.createImageData(places.columns, places.rows);
        const shades = colours.map(rgb), [r, g, b] = rgb(paper);
        for (let place = 0; place < places.count; place++) {
          const [column, row] = cellOf(place);
          const off = dimmed(place);
          const shade = off ? [r, g, b, 215] : name === "coloured" ? [...shades[label.codes[place]], 190] : null;
          if (shade) pixels.data.set(shade, 4 * (row * places.columns + column));
        }
        brush.putImageData(pixels, 0, 0);
        sheets[name] = sheet;
      }
      veil = sheets;
      redraw();
    };
    const colourBy = (name) => {
      label = places.labels.get(name) ?? null;
      chosen = new Set();
      const legend = find("[data-legend]");
      legend.hidden = !label;
      legend.replaceChildren();
      if (!label) { redraw(); return; }
      const others = label.counts.slice(LEGEND + 1).reduce((sum, count) => sum + count, 0);
      colours = [OTHER, ...label.values.map((value, place) => (place < LEGEND ? swatchOf(name, value, place) : OTHER))];
      const lines = label.values.slice(0, LEGEND).map((value, place) => [place + 1, value, label.counts[place + 1]]);
      if (others) lines.push([LEGEND + 1, words.others, others]);
      if (label.counts[0]) lines.push([0, words.without, label.counts[0]]);
      const template = find("template").content.firstElementChild;
      for (const [code, text, count] of lines) {
        const item = template.cloneNode(true), button = item.querySelector("button");
        item.querySelector(".choice__box").style.setProperty("--swatch", code >= 1 && code <= LEGEND ? colours[code] : OTHER);
        item.querySelector("[data-value]").textContent = text;
        item.querySelector("[data-count]").textContent = count.toLocaleString(document.documentElement.lang);
        button.addEventListener("click", () => {
          if (!chosen.delete(code)) chosen.add(code);
          button.setAttribute("aria-pressed", String(chosen.has(code)));
          paintVeils();
        });
        legend.append(item);
      }
      paintVeils();
    };

    // --- pointers: one drags, taps or draws, two pinch --------------------------------------------
    const pointers = new Map();
    let pressed = null; // where one finger or the button went down, until it has moved too far for a click
    const local = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!places || event.button) return;
      cancelAnimationFrame(moving);
      canvas.setPointerCapture(event.pointerId);
      const at = local(event);
      pointers.set(event.pointerId, at);
      pressed = pointers.size === 1 ? at : null;
      if (lassoing()) lasso = pointers.size === 1 ? [quarters(...at)] : null;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!places) return;
      const at = local(event), before = pointers.get(event.pointerId);
      if (!before) {
        if (event.pointerType !== "touch") hover(lassoing() ? -1 : under(...at));
        return;
      }
      if (pressed && Math.hypot(at[0] - pressed[0], at[1] - pressed[1]) > 6) pressed = null;
      if (pointers.size === 2) {
        const [other] = [...pointers].find(([id]) => id !== event.pointerId).slice(1);
        const distance = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
        const centre = (point) => [(point[0] + other[0]) / 2, (point[1] + other[1]) / 2];
        const [fromX, fromY] = centre(before), [toX, toY] = centre(at);
        view.x -= (toX - fromX) / cellW();
        view.y -= (toY - fromY) / cellH();
        zoomAt(distance(at) / Math.max(1, distance(before)), toX, toY);
      } else if (lasso) {
        const point = quarters(...at), last = lasso.at(-1);
        if (point[0] !== last[0] || point[1] !== last[1]) lasso.push(point);
        redraw();
      } else if (!pressed && pointers.size === 1) {
        hover(-1);
        canvas.classList.add("map__canvas--dragged");
        view.x -= (at[0] - before[0]) / cellW();
        view.y -= (at[1] - before[1]) / cellH();
        moved();
      }
      pointers.set(event.pointerId, at);
    });
    const released = (event) => {
      if (!pointers.delete(event.pointerId)) return;
      canvas.classList.remove("map__canvas--dragged");
      if (event.type === "pointercancel") { pressed = lasso = null; redraw(); return; }
      if (lasso && pointers.size === 0) closeLasso();
      else if (pressed) {
        const picture = under(...local(event));
        // A finger covers what it taps: the first tap shows the picture's card, the second one opens it.
        if (event.pointerType === "touch" && picture !== hovered) {
          // The click that a browser makes of the tap comes later, and may find the card, which is a link, in its place.
          card.classList.add("map__card--fresh");
          setTimeout(() => card.classList.remove("map__card--fresh"), CLICK_AFTER_TAP_MS);
          hover(picture);
        } else open(picture);
      }
      pressed = null;
    };
    canvas.addEventListener("pointerup", released);
    canvas.addEventListener("pointercancel", released);
    // The card is a link of its own: the pointer may go there.
    for (const [element, other] of [[canvas, card], [card, canvas]]) {
      element.addEventListener("pointerleave", (event) => {
        if (event.pointerType !== "touch" && !other.contains(event.relatedTarget)) hover(-1);
      });
    }
    canvas.addEventListener("wheel", (event) => {
      if (!places) return;
      event.preventDefault();
      cancelAnimationFrame(moving);
      const lines = event.deltaMode === 1 ? 20 : 1;
      zoomAt(Math.exp(-clamp(event.deltaY * lines, -240, 240) * (event.ctrlKey ? 0.01 : 0.0022)), ...local(event));
    }, { passive: false });

    // --- keys and buttons -------------------------------------------------------------------------
    canvas.addEventListener("keydown", (event) => {
      if (!places || event.ctrlKey || event.metaKey || event.altKey) return;
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
      if (x || y) {
        // Near by, a step is a picture; far away, a part of the view.
        const step = (across, cell) => (cell >= 48 ? 1 : Math.max(1, (across * STEP) / cell));
        const snap = (value, cell) => (cell >= 48 ? Math.floor(value) + 0.5 : value);
        hover(-1);
        go(snap(view.x, cellW()) + x * step(width, cellW()), snap(view.y, cellW()) + y * step(height, cellW()), view.unit);
      } else if (event.key === "+" || event.key === "=") zoomBy(1.6);
      else if (event.key === "-") zoomBy(1 / 1.6);
      else if (event.key === "0" || event.key === "Home") whole();
      else if (event.key === "Enter") open(focused);
      else if (event.key === "Escape" && lassoing()) setLasso(false);
      else if (event.key === "Escape" && area) showArea(null);
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("focus", () => { redraw(); if (places && canvas.matches(":focus-visible")) tell(); });
    canvas.addEventListener("blur", redraw);
    for (const button of root.querySelectorAll("[data-zoom-by]")) button.addEventListener("click", () => zoomBy(Number(button.dataset.zoomBy)));
    find("[data-whole]").addEventListener("click", whole);
    lassoButton.addEventListener("click", () => setLasso(!lassoing()));
    find("[data-area-clear]").addEventListener("click", () => { showArea(null); lassoButton.focus(); });
    find("[data-by]").addEventListener("change", (event) => { colourBy(event.target.value); settled(); });
    new ResizeObserver(measure).observe(stage);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { measure(); if (label) paintVeils(); });

    // --- beginning --------------------------------------------------------------------------------
    const asked = () => {
      const text = new URLSearchParams(location.search).get("area")?.split("-");
      if (!text) return;
      if (text.shift() !== places.key) { complain(words.gone); return; }
      const points = text.map(Number);
      showArea(points.flatMap((value, at) => (at % 2 ? [] : [[value, points[at + 1]]])));
      const [xs, ys] = [0, 1].map((side) => area.map((point) => point[side] / PER_CELL));
      const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
      [view.x, view.y] = [(left + right) / 2, (top + bottom) / 2];
      view.unit = 0.8 * Math.min(width / (CELL_W * Math.max(1, right - left)), height / (CELL_H * Math.max(1, bottom - top)));
    };
    const complain = (text) => {
      const note = find("[data-trouble-note]");
      note.textContent = text;
      note.hidden = false;
    };
    const begin = async () => {
      // The back button may have brought what it looked like.
      for (const name of ["data-ready", "data-drawn"]) root.removeAttribute(name);
      for (const part of [card, find("[data-area]"), find("[data-trouble-note]")]) part.hidden = true;
      setLasso(false);
      root.hidden = false;
      measure();
      try {
        const answer = await fetch(words.places, { signal: fetched.signal });
        if (!answer.ok) throw new Error(answer.statusText);
        places = parsePlaces(await answer.arrayBuffer());
      } catch {
        complain(words.trouble);
        return;
      }
      [view.x, view.y, view.unit] = [places.columns / 2, places.rows / 2, wholeUnit()];
      asked();
      const [x, y, unit, by] = location.hash.slice(1).split(",");
      if (Number(unit) > 0) [view.x, view.y, view.unit] = [Number(x) || 0, Number(y) || 0, Number(unit)];
      find("[data-by]").value = places.labels.has(by) ? by : "";
      colourBy(find("[data-by]").value);
      moved();
      settled();
      root.dataset.ready = "";
    };
    begin();
  };

  const begin = () => { for (const root of document.querySelectorAll("[data-map]")) start(root); };
  // The back button may bring another copy of the page's content, with nothing behind it.
  document.addEventListener("htmx:historyRestore", begin);
  begin();
})();

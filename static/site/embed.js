/* Similar items of one product, on somebody else's page:

     <script src="https://shop.example/embed.js" data-product-id="V0001" async></script>

   What it shows stands where the script stands, in a shadow root: the page's styles do not reach in, and these do not
   reach out. docs/embedding.md tells of the attributes and of the CSS variables that theme it. */
(() => {
  "use strict";
  const script = document.currentScript;
  const { productId, k = "6", mix, heading, link, target } = script.dataset;
  const shop = new URL(script.src).origin;

  const CSS = `
    :host { display: block; color: var(--vitrine-ink, inherit); font: var(--vitrine-font, inherit); }
    h2 { margin: 0 0 0.75em; font: var(--vitrine-heading-font, inherit); font-size: var(--vitrine-heading-size, 1.25em); }
    ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--vitrine-card-width, 9rem), 1fr)); gap: var(--vitrine-gap, 1rem); margin: 0; padding: 0; list-style: none; }
    a { display: block; color: inherit; text-decoration: none; }
    a:hover { text-decoration: underline; }
    a:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
    img { display: block; width: 100%; height: auto; aspect-ratio: 3 / 4; object-fit: contain; background: var(--vitrine-ground, #f1ede5); border-radius: var(--vitrine-radius, 4px); }
    span { display: block; margin-top: 0.4em; font-size: 0.875em; line-height: 1.35; }
  `;

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const card = (match) => {
    const address = link
      ? link.replaceAll("{id}", encodeURIComponent(match.product_id))
      : new URL(match.url, shop).href;
    const anchor = element("a", { href: address }, element("span", { textContent: match.title }));
    if (target) Object.assign(anchor, { target, rel: "noopener" });
    if (match.thumbnail)
      anchor.prepend(
        element("img", { src: new URL(match.thumbnail, shop).href, alt: "", loading: "lazy", width: 240, height: 320 }),
      );
    return element("li", {}, anchor);
  };

  const show = (matches) => {
    if (!matches.length) return; // nothing is better than an empty frame
    const host = element("div", { className: "vitrine-similar" });
    const root = host.attachShadow({ mode: "open" });
    const style = new CSSStyleSheet(); // allowed where a policy forbids style elements
    style.replaceSync(CSS);
    root.adoptedStyleSheets = [style];
    const title = heading ?? "Similar items";
    const section = element("section", { ariaLabel: title });
    if (title) section.append(element("h2", { textContent: title }));
    section.append(element("ul", {}, ...matches.map(card)));
    root.append(section);
    script.after(host);
    host.dispatchEvent(new CustomEvent("vitrine:shown", { bubbles: true, detail: { matches } }));
  };

  const question = new URLSearchParams({ k, collapse: "true", diversity: "0.15", min_score: "calibrated" });
  if (mix) question.set("mix", mix);
  const path = productId.split("/").map(encodeURIComponent).join("/");
  fetch(`${shop}/api/v1/products/${path}/similar/?${question}`, { credentials: "omit" })
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`${answer.status} ${answer.statusText}`))))
    .then(({ matches }) => show(matches))
    .catch((error) => console.warn(`Vitrine has no similar items for ${productId}:`, error.message));
})();

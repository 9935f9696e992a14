/* Completion in the search field: a combobox with a list (https://www.w3.org/WAI/ARIA/apg/patterns/combobox/).
   Without JavaScript, and wherever it fails, the field stays a search field. */
(() => {
  "use strict";
  const input = document.getElementById("q");
  const form = input?.form;
  if (!form?.dataset.suggest) return;
  const WAIT_MS = 120;

  const list = document.createElement("ul");
  Object.assign(list, { id: "suggestions", className: "suggestions", hidden: true });
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", form.dataset.suggestions);
  form.append(list);
  const attributes = { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id };
  for (const [name, value] of Object.entries(attributes)) input.setAttribute(name, value);

  let active = -1;
  let timer = 0;
  let asked = null;

  const activate = (place) => {
    active = place;
    [...list.children].forEach((option, each) => option.setAttribute("aria-selected", String(each === place)));
    const option = list.children[place];
    if (option) {
      input.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
  };
  const close = () => {
    clearTimeout(timer);
    asked?.abort();
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    activate(-1);
  };
  const item = (suggestion, place) => {
    const option = document.createElement("li");
    option.id = `suggestion-${place}`;
    option.className = `suggestion suggestion--${suggestion.kind}`;
    option.setAttribute("role", "option");
    option.dataset.url = suggestion.url;
    for (const [name, text] of [["text", suggestion.text], ["note", suggestion.note]]) {
      if (!text) continue;
      const part = document.createElement("span");
      part.className = `suggestion__${name}`;
      part.textContent = text;
      option.append(part, " ");
    }
    return option;
  };
  const ask = async () => {
    asked?.abort();
    asked = new AbortController();
    try {
      const query = new URLSearchParams({ q: input.value });
      const answer = await fetch(`${form.dataset.suggest}?${query}`, { signal: asked.signal });
      const { suggestions } = answer.ok ? await answer.json() : { suggestions: [] };
      list.replaceChildren(...suggestions.map(item));
      list.hidden = suggestions.length === 0;
      input.setAttribute("aria-expanded", String(!list.hidden));
      activate(-1);
    } catch {
      /* overtaken by the next letter, or no connection: the search works without */
    }
  };

  input.addEventListener("input", () => {
    clearTimeout(timer);
    if (input.value.trim().length < 2) close();
    else timer = setTimeout(ask, WAIT_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const count = list.children.length;
    if (event.key === "ArrowDown" && list.hidden && input.value.trim()) ask();
    else if (list.hidden) return;
    else if (event.key === "ArrowDown") activate(active + 1 < count ? active + 1 : -1);
    else if (event.key === "ArrowUp") activate(active < 0 ? count - 1 : active - 1);
    else if (event.key === "Enter" && active >= 0) list.children[active].click();
    else if (event.key === "Escape") close();
    else {
      if (event.key === "Tab" || event.key === "Enter") close();
      return;
    }
    event.preventDefault();
  });
  list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) location.assign(option.dataset.url);
  });
  form.addEventListener("submit", close);
  input.addEventListener("blur", close);
})();

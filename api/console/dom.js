// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// Making elements. Text only ever becomes text: nothing here, or anywhere in the console, takes markup.

const SVG = "http://www.w3.org/2000/svg";

function put(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

// h("p", {class: "note", onclick}, "text", other) - HTML.
export const h = (tag, properties, ...children) => put(document.createElement(tag), properties, children);
// The same for SVG.
export const s = (tag, properties, ...children) => put(document.createElementNS(SVG, tag), properties, children);

// Set text if it is another: what has not changed is not laid out again.
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function toggle(node, name, on) {
  if (node.classList.contains(name) !== on) node.classList.toggle(name, on);
}

// Rows that stay where they are and change in place, so that what has the focus or is being selected keeps it.
// make(item) gives {element, show(item)}. Returns how to show a list of items.
export function keyed(body, keyOf, make) {
  const rows = new Map();
  return (items) => {
    const there = new Set(items.map(keyOf));
    for (const [key, row] of rows)
      if (!there.has(key)) {
        row.element.remove();
        rows.delete(key);
      }
    items.forEach((item, i) => {
      const key = keyOf(item);
      if (!rows.has(key)) rows.set(key, make(item));
      const { element } = rows.get(key);
      rows.get(key).show(item);
      if (body.children[i] !== element) body.insertBefore(element, body.children[i] ?? null);
    });
  };
}

// What a screen reader says.
export function say(words) {
  document.getElementById("said").textContent = words;
}

// A short word at the lower edge, for people who look.
export function toast(words, bad = false) {
  const node = h("div", { class: bad ? "toast bad" : "toast", role: bad ? "alert" : "status" }, words);
  document.body.append(node);
  setTimeout(() => node.remove(), bad ? 8000 : 4000);
}

// A question in a dialog; resolves to true or false.
export function ask(title, words, action) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "ask", "aria-labelledby": "ask-title", onclose: () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    } },
      h("h2", { id: "ask-title" }, title),
      h("p", {}, words),
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close("no") }, "Cancel"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, action)));
    document.body.append(dialog);
    dialog.showModal();
  });
}

// The few things a page needs of a framework. Text is only ever set as text.

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// A sentence with commands between backticks.
export const prose = (text) => text.split("`").map((part, i) => (i % 2 ? el("code", {}, part) : part));

export const term = (name, text) => el("span", { "data-term": name }, text);

// Sets text only where it has changed, so that a selection and a screen reader are left alone.
export function put(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

// Replaces children only where what they are made from has changed.
export function fill(node, from, make) {
  const sign = JSON.stringify(from);
  if (node.filledFrom === sign) return;
  node.filledFrom = sign;
  node.replaceChildren(...[make(from)].flat().filter(Boolean));
}

// One child per item, kept as long as its key is there, in the order of the items.
export function sync(parent, items, key, make) {
  const before = (parent.rows ??= new Map());
  const after = new Map();
  for (const item of items) {
    const name = key(item);
    if (after.has(name)) continue;
    const row = before.get(name) ?? make(item);
    row.update(item);
    after.set(name, row);
  }
  for (const [name, row] of before) if (!after.has(name)) row.nodes.forEach((node) => node.remove());
  let at = parent.firstElementChild;
  for (const row of after.values()) {
    for (const node of row.nodes) {
      if (node === at) at = at.nextElementSibling;
      else parent.insertBefore(node, at);
    }
  }
  parent.rows = after;
}

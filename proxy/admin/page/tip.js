// What a term means: on hover, by keyboard focus, and by tap. One bubble for all of them.

import { $ } from "./dom.js";
import { TERMS } from "./words.js";

const GAP = 8;
let shown = null;

const words = (node) => node.dataset.tip ?? TERMS[node.dataset.term];
const meant = (event) => (event.target instanceof Element ? event.target.closest("[data-term], [data-tip]") : null);

export function show(node) {
  const text = words(node);
  if (!text) return;
  const tip = $("tip");
  if (shown && shown !== node) shown.removeAttribute("aria-describedby");
  shown = node;
  tip.textContent = text;
  tip.hidden = false;
  node.setAttribute("aria-describedby", "tip");
  place();
}

function place() {
  const tip = $("tip");
  const at = shown.getBoundingClientRect();
  if (at.bottom < 0 || at.top > document.documentElement.clientHeight) return hide();
  tip.style.left = "0"; // at the edge it would be narrower than it may be
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = Math.min(Math.max(GAP, at.left + at.width / 2 - width / 2), document.documentElement.clientWidth - width - GAP);
  const above = at.top - height - GAP;
  tip.style.left = `${left}px`;
  tip.style.top = `${above >= GAP ? above : at.bottom + GAP}px`;
}

export function hide() {
  if (shown) shown.removeAttribute("aria-describedby");
  shown = null;
  $("tip").hidden = true;
}

// Terms that are no control of their own can be reached by keyboard, too.
export function reachable(root = document) {
  for (const node of root.querySelectorAll("[data-term]")) if (!node.matches("button, a, summary") && !node.hasAttribute("tabindex")) node.tabIndex = 0;
}

export function begin() {
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const node = meant(event);
    if (node) show(node);
    else if (shown && shown !== document.activeElement) hide();
  });
  document.addEventListener("focusin", (event) => (meant(event) && event.target.matches(":focus-visible") ? show(meant(event)) : hide()));
  document.addEventListener("focusout", hide);
  document.addEventListener("click", (event) => {
    const node = meant(event);
    if (node) show(node);
    else hide();
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", () => shown && place(), { passive: true, capture: true });
  reachable();
}

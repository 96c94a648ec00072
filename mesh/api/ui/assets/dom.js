// Making and keeping elements, and words for numbers. Text is set as text everywhere: names come from outside.

const SVG = 'http://www.w3.org/2000/svg';

/** Makes an element. Props are attributes, but for on (listeners by name); children are nodes, texts and lists of them. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'on') for (const [type, f] of Object.entries(value)) node.addEventListener(type, f);
    else node.setAttribute(name, value === true ? '' : value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const c of children.flat(Infinity)) {
    if (c === undefined || c === null || c === false) continue;
    node.append(c); // a string becomes a text node
  }
}

/** An icon of the sprite in index.html. It stands beside a word, so it is hidden from assistive technology. */
export function icon(name, extra = '') {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', `icon ${extra}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('focusable', 'false');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A text from outside without characters that are not seen, or that change how others are. */
export const visible = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\ufffd');

/** A name from outside, kept apart from the direction of the text around it. */
export const name = (text, cls) => el('bdi', { class: cls }, visible(text));

/** A member of an object from outside, whose keys may be called anything. */
export const own = (object, key) => (Object.hasOwn(object, key) ? object[key] : undefined);

/** The names as a list in a sentence: a, b and c. */
export function names(list, most = 6) {
  const shown = list.slice(0, most);
  const rest = list.length - shown.length;
  const out = [];
  shown.forEach((n, i) => {
    if (i > 0) out.push(i === shown.length - 1 && rest === 0 ? ' and ' : ', ');
    out.push(name(n));
  });
  if (rest > 0) out.push(` and ${count(rest, 'other')}`);
  return out;
}

/** Sets an element's text only when it changes, so that nothing is announced or selected anew without need. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Makes parent's children those that items describe: {key, sig, make}. A child whose key and sig are as before stays the same
 * element. Focus stays where it was by the data-f of the element that had it.
 */
export function keep(parent, items) {
  const had = new Map();
  for (const child of parent.children) had.set(child.dataset.key, child);
  const active = document.activeElement;
  const held = active && parent.contains(active) ? active.dataset.f : undefined;
  let at = parent.firstElementChild;
  for (const { key, sig, make } of items) {
    let node = had.get(key);
    if (!node || node.dataset.sig !== sig) {
      const fresh = make();
      fresh.dataset.key = key;
      fresh.dataset.sig = sig;
      if (node) {
        if (node === at) at = fresh;
        node.replaceWith(fresh);
      }
      node = fresh;
    }
    had.delete(key);
    if (node === at) at = at.nextElementSibling;
    else parent.insertBefore(node, at);
  }
  for (const gone of had.values()) gone.remove();
  if (held !== undefined && !parent.contains(document.activeElement)) {
    parent.querySelector(`[data-f="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  }
}

/** Replaces what an element holds, when sig says that it is another. */
export function fill(node, sig, make) {
  if (node.dataset.sig === sig) return;
  node.dataset.sig = sig;
  const active = document.activeElement;
  const held = active && node.contains(active) ? active.dataset.f : undefined;
  node.replaceChildren();
  append(node, [make()]);
  if (held !== undefined) node.querySelector(`[data-f="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export const number = (n) => whole.format(n);

/** 1 peer, 2 peers. */
export const count = (n, word, many = `${word}s`) => `${number(n)} ${n === 1 ? word : many}`;

export const short = (digest) => String(digest).slice(0, 8);

export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) {
    n /= 1000;
    i++;
  }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toPrecision(2).replace(/\.0$/, '')} ${units[i]}`;
}

/** How long, in words short enough to stand in a line. */
export function since(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** A duration as the API writes it ("1m30s"), in the words of people. */
export function duration(text) {
  return String(text).replace(/(\d)([a-zµ]+)(?=\d)/g, '$1$2 ').replace(/\b(\d+)(h|m|s)\b/g, (_, n, u) => `${n} ${u === 'm' ? 'min' : u}`)
    .replace(/( 0 (min|s))+$/, '');
}

/** A metric's value. */
export function value(v) {
  if (v === undefined || v === null || !Number.isFinite(v)) return '–';
  const a = Math.abs(v);
  if (a !== 0 && (a < 1e-4 || a >= 1e7)) return v.toExponential(3);
  return String(Number(v.toPrecision(5)));
}

// The chain of rounds: a column for each round, a row for each peer. Where all agree the column is one block.

import { count, el, keep, name, number, own, setText } from './dom.js';

const $ = (id) => document.getElementById(id);

const STEP = 26; // pixels from column to column

/** How many columns fit. */
export function columns() {
  const width = $('chain-columns').clientWidth || 600;
  return Math.max(6, Math.floor((width + 4) / STEP));
}

/** What a peer has of a round: has, sealed, missing, differs or none, where it has no part in it. */
export function cell(info, peer) {
  const model = own(info.computed, peer);
  if (model !== undefined) return info.model && model !== info.model ? 'differs' : 'has';
  if (info.took.includes(peer)) return 'has';
  if (info.sealed.includes(peer)) return info.combiners === 0 || info.state === 'final' ? 'has' : 'sealed';
  return info.waiting_for.includes(peer) ? 'missing' : 'none';
}

/** What all peers together have of a round: {kind, cells}. One kind without cells is one block. */
export function column(info, peers) {
  if (info.compacted) return { kind: info.divergent ? 'split' : 'compacted', cells: info.divergent ? peers.map(() => 'differs') : [] };
  if (info.state === 'open') return { kind: 'open', cells: [] };
  const cells = peers.map((p) => cell(info, p));
  const there = cells.filter((c) => c !== 'none');
  if (!info.divergent && there.length > 0 && cells.every((c) => c === 'has')) return { kind: info.combiners === 0 ? 'empty' : info.state, cells: [] };
  if (!info.divergent && info.state === 'final' && there.every((c) => c === 'has')) return { kind: 'part', cells };
  return { kind: 'split', cells };
}

/** The same in words, for those who do not see it. */
export function describe(info, peers) {
  const parts = [`Round ${info.round}`, info.state];
  const cells = peers.map((p) => [p, cell(info, p)]);
  const who = (kind) => cells.filter(([, c]) => c === kind).map(([p]) => p);
  if (info.divergent) parts.push('DIVERGES: peers computed different models');
  else if (info.compacted) parts.push('compacted, all agreed');
  else if (info.state === 'open') parts.push(`${count(info.combiners, 'combiner')} in`);
  else {
    const has = who('has');
    const rest = [...who('sealed'), ...who('missing')];
    if (rest.length === 0) parts.push(has.length > 0 ? `${has.length === 1 ? has[0] : `all ${has.length} peers`} agree` : 'nobody has it');
    else parts.push(`${has.join(', ') || 'nobody'} ${has.length === 1 ? 'has' : 'have'} it`, `waits for ${rest.slice(0, 8).join(', ')}${rest.length > 8 ? ' and others' : ''}`);
  }
  if (info.combiners === 0 && info.state !== 'open') parts.push('no updates, the model stayed');
  if (info.versions > 1) parts.push('amended');
  if (info.lost.length > 0) parts.push(`${count(info.lost.length, 'update')} lost`);
  if (info.model) parts.push(`model ${info.model.slice(0, 8)}`);
  return parts.join(', ');
}

/** Draws rounds from..from+n-1. have gives a round's summary, if it is known; share is how full the open one is. */
export function drawChain({ from, last, n, have, peers, selected, share, onSelect }) {
  const chain = $('chain');
  chain.style.setProperty('--rows', String(Math.max(1, peers.length)));
  chain.style.setProperty('--cell', `${peers.length > 16 ? 11 : peers.length > 8 ? 15 : 22}px`);
  keep($('chain-peers'), peers.map((p) => ({ key: p, sig: '', make: () => el('span', { class: 'chain-peer' }, name(p, 'clip')) })));
  const items = [];
  const kinds = new Set();
  const to = Math.min(last, from + n - 1);
  for (let r = from; r <= to; r++) {
    const info = have(r);
    const picked = r === selected;
    if (info) for (const k of signs(info, peers)) kinds.add(k);
    const tab = picked || (r === to && !(selected >= from && selected <= to));
    // The chosen one's number needs the room of its neighbours.
    const how = { picked, tab, labelled: picked || (r % 5 === 0 && Math.abs(r - selected) > 2) };
    items.push(info
      ? { key: String(r), sig: JSON.stringify([info.state, info.model, info.computed, info.sealed, info.took, info.waiting_for, info.divergent, info.versions, info.lost.length, info.compacted, info.combiners, peers, how, info.state === 'open' && share]),
        make: () => button(info, peers, how, share, onSelect) }
      : { key: String(r), sig: JSON.stringify(how), make: () => button({ round: r, state: 'open', unknown: true }, peers, how, 0, onSelect) });
  }
  keep($('chain-columns'), items);
  for (const li of $('legend').children) li.hidden = !kinds.has(li.dataset.kind);
  setText($('chain-range'), last === 0 ? '' : from === to ? `round ${number(to)} of ${number(last)}` : `rounds ${number(from)} to ${number(to)} of ${number(last)}`);
  $('chain-oldest').disabled = $('chain-older').disabled = from <= 1;
  $('chain-newest').disabled = $('chain-newer').disabled = to >= last;
}

/** What of the legend a column uses. */
function signs(info, peers) {
  const { kind } = column(info, peers);
  const out = [kind === 'part' ? 'final' : kind === 'sealed' ? 'split' : kind];
  if (info.divergent) out.push('differs');
  if (info.versions > 1) out.push('amended');
  if (info.lost.length > 0) out.push('lost');
  return out;
}

function button(info, peers, { picked, tab, labelled }, share, onSelect) {
  const c = info.unknown ? { kind: 'unknown', cells: [] } : column(info, peers);
  const marks = [];
  if (info.divergent) marks.push(['danger', '!']);
  if (info.lost?.length > 0) marks.push(['warn', '−']);
  if (info.versions > 1) marks.push(['amended', '±']);
  const body = c.cells.length > 0 ? cells(c.cells, info.state) : [el('span', { class: `block ${c.kind}` })];
  if (c.kind === 'open') {
    const level = el('span', { class: 'level' });
    level.style.height = `${Math.round(share * 100)}%`;
    body[0].append(level);
  }
  const text = info.unknown ? `Round ${info.round}, being fetched` : describe(info, peers);
  return el('button', {
    type: 'button', class: `column ${c.kind}${picked ? ' picked' : ''}`, 'aria-pressed': String(picked), 'aria-label': text, title: text, tabindex: tab ? '0' : '-1',
    'data-round': String(info.round), 'data-kind': c.kind, 'data-f': String(info.round), on: { click: () => onSelect(info.round) },
  },
  el('span', { class: 'marks' }, marks.map(([cls, sign]) => el('span', { class: `mark ${cls}` }, sign))),
  el('span', { class: 'stack' }, body),
  el('span', { class: 'label' }, labelled ? String(info.round) : ''));
}

/** A cell for each peer; neighbours that agree grow together. */
function cells(kinds, state) {
  return kinds.map((k, i) => {
    const joins = (j) => k === 'has' && kinds[j] === 'has';
    return el('span', { class: `cell ${k} ${state}${joins(i - 1) ? ' up' : ''}${joins(i + 1) ? ' down' : ''}` }, k === 'differs' ? '≠' : '');
  });
}

/** Arrow keys go from round to round; Enter and space choose, as on any button. */
export function keys(onMove) {
  $('chain-columns').addEventListener('keydown', (e) => {
    const at = Number(e.target.dataset?.round);
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -columns(), PageDown: columns(), Home: -Infinity, End: Infinity }[e.key];
    if (!at || by === undefined || e.altKey || e.ctrlKey || e.metaKey) return;
    e.preventDefault();
    onMove(at, by);
  });
}

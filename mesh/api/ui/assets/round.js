// The open round as it fills up, and one round in full.

import { now, modelPath } from './api.js';
import { count, duration, el, fill, icon, keep, name, names, number, own, setText, short, since, visible } from './dom.js';

const $ = (id) => document.getElementById(id);

const FEW = 24; // combiners shown until all are asked for
const ROWS = 50; // updates of a round listed until all are asked for

let all = false; // combiners of the open round

export function drawSession(s) {
  setText($('session-name'), visible(s.name));
  fill($('session-facts'), JSON.stringify([s.key, s.state, s.config, s.model, s.model_round, s.members, s.clash, s.privacy]), () => {
    const c = s.config;
    const params = Object.entries(c.params ?? {}).map(([k, v]) => `${visible(k)} ${visible(v)}`).join(', ');
    const fact = (what, ...value) => el('div', {}, el('dt', {}, what), el('dd', {}, value));
    return [
      fact('State', s.state),
      fact('Strategy', name(c.strategy), params && el('span', { class: 'muted' }, ` ${params}`)),
      fact(s.model_round === 0 ? 'Model (the seed)' : `Model of round ${number(s.model_round)}`,
        el('a', { href: modelPath(s.name, s.model), download: `${s.name}-${s.model_round}.safetensors`, title: `Download ${s.model}` }, el('code', {}, short(s.model)))),
      fact('A round closes', closes(c)),
      fact('Copies of an update', number(c.copies)),
      s.privacy && fact('Privacy', `ε ${s.privacy.epsilon.toPrecision(3)} at δ ${s.privacy.delta}`),
    ];
  });
}

function closes(c) {
  const least = c.min_combiners > 1 ? `, never below ${number(c.min_combiners)}` : '';
  if (c.target_combiners > 0) return `at ${count(c.target_combiners, 'combiner')} or after ${duration(c.round_timeout)}${least}`;
  return `after ${duration(c.round_timeout)}${least}`;
}

/** The combiners of the last rounds that are not in this one. */
export function awaited(info, known) {
  const here = new Set(info.updates.map((u) => u.combiner));
  return [...known].filter((c) => !here.has(c)).sort();
}

/**
 * Draws the open round: info with its updates, the combiners known from rounds before, and the round before it as long as peers'
 * words on that are awaited.
 */
export function drawOpen(session, info, known, before) {
  const box = $('open');
  box.hidden = !info;
  if (!info) return;
  const closed = session.state === 'closed';
  setText($('open-title'), closed ? `The last round, ${number(info.round)}` : `Round ${number(info.round)}`);
  const target = session.config.target_combiners;
  const waiting = closed ? [] : awaited(info, known);
  const full = target > 0 ? target : info.combiners + waiting.length;
  drawMeter(info, full, target);
  const rest = target > 0 ? ` of ${number(target)}` : waiting.length > 0 ? ` of ${number(full)} known` : '';
  setText($('open-count'), `${number(info.combiners)}${rest} ${full === 1 ? 'combiner' : 'combiners'}`);
  setText($('open-weight'), info.weight > 0 ? `${count(info.weight, 'example')}` : '');
  $('open-since').dataset.opened = closed ? '' : info.opened ?? '';
  tick();
  drawCombiners(info, waiting);
  drawSeals(before);
}

/** Renews the texts that change with time alone. */
export function tick() {
  const at = $('open-since');
  const opened = Date.parse(at.dataset.opened);
  setText(at, opened ? `open for ${since(now() - opened)}` : '');
}

function drawMeter(info, full, target) {
  const meter = $('open-meter');
  meter.hidden = full === 0;
  const share = full > 0 ? Math.min(1, info.combiners / full) : 0;
  meter.setAttribute('aria-valuemax', String(Math.max(full, 1)));
  meter.setAttribute('aria-valuenow', String(Math.min(info.combiners, Math.max(full, 1))));
  meter.setAttribute('aria-valuetext', `${info.combiners} of ${full}`);
  const pieces = full <= 60 ? full : 0;
  fill(meter, JSON.stringify([pieces, pieces ? info.combiners : 0, target > 0]), () => {
    if (pieces === 0) return el('span', { class: 'bar' });
    return Array.from({ length: pieces }, (_, i) => el('span', { class: i < info.combiners ? 'piece in' : 'piece' }));
  });
  const bar = meter.querySelector('.bar');
  if (bar) bar.style.width = `${share * 100}%`;
}

function drawCombiners(info, waiting) {
  const by = new Map();
  for (const u of info.updates) {
    const c = by.get(u.combiner) ?? { weight: 0, n: 0, copies: Infinity, holders: [] };
    if (u.copies.length < c.copies) Object.assign(c, { copies: u.copies.length, holders: u.copies });
    by.set(u.combiner, { ...c, weight: c.weight + u.weight, n: c.n + 1 });
  }
  const items = [];
  for (const [combiner, c] of by) {
    items.push({ key: `in ${combiner}`, sig: JSON.stringify(c), make: () => inside(combiner, c) });
  }
  for (const combiner of waiting) {
    items.push({ key: `out ${combiner}`, sig: '', make: () => chip('out', 'wait', combiner, 'awaited', combiner) });
  }
  keep($('combiners'), all ? items : items.slice(0, FEW));
  const empty = $('open-empty');
  empty.hidden = items.length > 0;
  const more = $('combiners-more');
  more.hidden = items.length <= FEW;
  setText(more, all ? 'Show fewer' : `Show all ${number(items.length)}`);
  more.setAttribute('aria-expanded', String(all));
  more.onclick = () => {
    all = !all;
    drawCombiners(info, waiting);
  };
}

function chip(cls, sign, combiner, note, title) {
  return el('li', { class: `chip ${cls}`, title }, icon(sign), el('span', { class: 'chip-text' }, name(combiner, 'clip'), el('span', { class: 'chip-note' }, note)));
}

function inside(combiner, c) {
  const note = [count(c.weight, 'example'), count(c.copies, 'copy', 'copies'), c.n > 1 && count(c.n, 'update')].filter(Boolean).join(' · ');
  return chip('in', 'ok', combiner, note, `${combiner}: held by ${c.holders.join(', ')}`);
}

function drawSeals(before) {
  const box = $('seals');
  const open = before && before.state !== 'final' && before.waiting_for.length > 0;
  box.hidden = !open;
  if (!open) return;
  const sealed = new Set(before.sealed);
  const done = new Set([...Object.keys(before.computed), ...before.took]);
  const everybody = [...new Set([...before.sealed, ...before.waiting_for])].sort();
  // Of many, those that are awaited matter.
  const peers = everybody.length > 8 ? everybody.filter((p) => !done.has(p)).slice(0, 12) : everybody;
  const rest = everybody.length > 8 ? `; ${number(everybody.filter((p) => done.has(p)).length)} of ${count(everybody.length, 'peer')} have its model` : '';
  fill(box, JSON.stringify([before.round, before.state, everybody, [...sealed], [...done]]), () => [
    el('p', { class: 'seals-title' }, `Round ${number(before.round)} is ${before.state}, not final yet${rest}`),
    el('ul', { class: 'seal-list', 'aria-label': `Peers' words on round ${before.round}` }, peers.map((p) => {
      const [sign, word] = done.has(p) ? ['ok', 'has the model'] : sealed.has(p) ? ['seal', 'sealed'] : ['wait', 'awaited'];
      return el('li', { class: `seal ${sign}` }, icon(sign), name(p, 'clip'), el('span', { class: 'chip-note' }, word));
    })),
  ]);
}

const meaning = {
  open: 'takes updates', sealed: 'closed; its model is not here yet', settled: 'its model is served; a late seal may still amend it', final: 'nothing changes it any more',
};

/** Draws one round in full. rows says whether all of its updates are listed. */
export function drawRound(session, info, rows, onAll) {
  const box = $('round');
  box.hidden = !info;
  if (!info) return;
  setText($('round-title'), `Round ${number(info.round)}`);
  fill($('round-body'), JSON.stringify([info, rows, session.name]), () => [
    info.divergent && el('div', { class: 'notice danger' }, icon('danger'), el('p', {}, el('strong', {}, 'Peers computed different models from the same inputs.'))),
    facts(session, info), words(info), lost(info), updates(info, rows, onAll),
  ]);
}

function facts(session, info) {
  const fact = (what, ...value) => el('div', {}, el('dt', {}, what), el('dd', {}, value));
  return el('dl', { class: 'facts' },
    fact('State', el('strong', {}, info.state), el('span', { class: 'muted' }, `: ${meaning[info.state] ?? ''}`)),
    fact('Updates', info.combiners === 0 ? 'none: the model stays' : `${count(info.combiners, 'combiner')}, ${count(info.weight, 'example')}`),
    info.model && fact('Model', el('a', { href: modelPath(session.name, info.model), download: `${session.name}-${info.round}.safetensors` }, el('code', { class: 'digest' }, info.model))),
    info.inputs && fact('Inputs', el('code', { class: 'digest' }, info.inputs)),
    info.versions > 1 && fact('Amended', `${count(info.versions, 'version')} were computed, as a late seal brought more in`),
    info.compacted && fact('Compacted', 'long final; who held and computed what is no longer kept'));
}

/** Who sealed and computed, a line for each peer. */
function words(info) {
  if (info.compacted || info.state === 'open') return null;
  const peers = [...new Set([...info.sealed, ...info.waiting_for, ...Object.keys(info.computed)])].sort();
  if (peers.length === 0) return null;
  return el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `Peers' words on round ${info.round}` }, el('table', { class: 'narrow' },
    el('caption', {}, 'Peers'),
    el('thead', {}, el('tr', {}, ['Peer', 'Sealed', 'Model'].map((h) => el('th', { scope: 'col' }, h)))),
    el('tbody', {}, peers.map((p) => {
      const has = own(info.computed, p);
      const other = has && info.model && has !== info.model;
      return el('tr', { class: other && 'differs' },
        el('th', { scope: 'row' }, name(p, 'clip')),
        el('td', {}, info.sealed.includes(p) ? 'yes' : 'not yet'),
        el('td', {}, other && icon('danger'), has ? el('code', {}, short(has)) : info.took.includes(p) ? 'took it from another' : info.combiners === 0 && info.sealed.includes(p) ? 'unchanged' : 'awaited',
          other && ' differs'));
    }))));
}

function lost(info) {
  if (info.lost.length === 0) return null;
  return el('div', { class: 'notice warn' }, icon('warn'), el('div', {},
    el('p', {}, el('strong', {}, `${count(info.lost.length, 'update')} left this round`), ', as no peer in reach had the bytes. What is found again counts in a later round.'),
    el('p', { class: 'sub' }, names(info.lost.map((u) => `${u.combiner} ${u.id}`), 20))));
}

function updates(info, rows, onAll) {
  if (info.updates.length === 0) return null;
  const shown = rows ? info.updates : info.updates.slice(0, ROWS);
  return [
    el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `Updates in round ${info.round}` }, el('table', {},
      el('caption', {}, 'Updates'),
      el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'Combiner'), el('th', { scope: 'col', class: 'num' }, 'Examples'), ['Trained from', 'Copies at', 'Digest', 'Id'].map((h) => el('th', { scope: 'col' }, h)))),
      el('tbody', {}, shown.map((u) => el('tr', {},
        el('th', { scope: 'row' }, name(u.combiner, 'clip')),
        el('td', { class: 'num' }, number(u.weight)),
        el('td', {}, u.base_round === 0 ? 'the seed' : `round ${number(u.base_round)}`),
        el('td', {}, u.copies.length > 0 ? names(u.copies) : info.compacted ? 'not kept' : 'nobody in reach'),
        el('td', {}, el('code', {}, short(u.digest))),
        el('td', {}, el('code', { class: 'clip id', title: u.id }, visible(u.id)))))))),
    info.updates.length > ROWS && el('button', { type: 'button', class: 'quiet', 'data-f': 'rows', 'aria-expanded': String(rows), on: { click: onAll } },
      rows ? 'Show fewer' : `Show all ${number(info.updates.length)}`),
  ];
}

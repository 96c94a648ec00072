// The verdict, the peers and the sessions.

import { bytes, count, el, fill, icon, keep, name, names, number, setText, short } from './dom.js';

const $ = (id) => document.getElementById(id);

const MAX_SESSIONS = 200; // listed at once; the filter finds the others

const words = {
  alive: ['alive', 'ok'], suspect: ['suspected', 'wait'], dead: ['dead', 'dead'], left: ['has left', 'left'],
  forgetting: ['being forgotten', 'wait'], forgotten: ['forgotten', 'left'],
};

/** The URL of another peer's dashboard, null when its address makes none. */
export function dashboard(peer, hash = location.hash) {
  if (!peer.api) return null;
  try {
    const url = new URL(`${location.protocol}//${peer.api}/`);
    return url.host === '' || url.username || url.pathname !== '/' ? null : `${url.href}${hash}`;
  } catch {
    return null;
  }
}

/** What is to be said of the whole: {level, title, notes}. */
export function judge({ mesh, sessions, problem }) {
  const notes = [];
  const here = mesh.peers.filter((p) => p.state !== 'left' && p.state !== 'forgotten');
  const dead = here.filter((p) => p.state !== 'alive');
  const forgetting = dead.filter((p) => p.state === 'forgetting');
  const behind = here.filter((p) => p.state === 'alive' && p.vector_lag > 100);
  const torn = sessions.filter((s) => s.divergent > 0);
  const clashing = sessions.filter((s) => s.clash?.length > 0);
  if (torn.length > 0) {
    return {
      level: 'danger', title: 'Peers computed different models from the same inputs',
      notes: [['In ', names(torn.map((s) => s.name)), '. This never happens on sound machines: look for a peer with broken memory or disk, or another build. The rounds in red say who differs.']],
    };
  }
  let title = '';
  if (problem) {
    title = 'This peer is not ready';
    notes.push([problem]);
  }
  if (dead.length > 0) {
    title ||= `${number(dead.length)} of ${count(here.length, 'peer')} ${dead.length === 1 ? 'is' : 'are'} dead`;
    notes.push([names(dead.map((p) => p.name)), dead.length === here.length - 1 && here.length > 2 ? ': this peer goes on alone.' : ': the others go on.',
      ' Rounds become final once ', dead.length === 1 ? 'it returns or is' : 'they return or are', ' forgotten.']);
  }
  for (const p of forgetting) {
    if (p.waiting_for?.length) notes.push([name(p.name), ' shall be forgotten; ', names(p.waiting_for), ' must agree first.']);
  }
  if (clashing.length > 0) {
    title ||= 'Two sessions have one name';
    notes.push([names(clashing.map((s) => s.name)), ': opened twice with different seeds or settings. One is served by name, the other by its key.']);
  }
  if (!mesh.agreed) {
    title ||= 'Peers are catching up';
    notes.push(['Not every live peer has the newest models yet.']);
  }
  if (behind.length > 0) {
    title ||= 'Peers are catching up';
    notes.push([names(behind.map((p) => p.name)), behind.length === 1 ? ' lags' : ' lag', ' behind.']);
  }
  if (title) return { level: 'warn', title, notes };
  const alive = here.length;
  return {
    level: 'ok', title: 'All is well',
    notes: [[alive === 1 ? 'One peer runs alone. Join more, and the loss of one loses nothing.' : `${count(alive, 'peer')} are alive and agree on every model.`]],
  };
}

export function drawVerdict(view) {
  const v = judge(view);
  const box = $('verdict');
  box.dataset.level = v.level;
  // An alert interrupts a screen reader, so only a divergence is one.
  const role = v.level === 'danger' ? 'alert' : 'status';
  if (box.getAttribute('role') !== role) box.setAttribute('role', role);
  const text = el('div', {}, v.notes.flat()).textContent;
  fill(box, JSON.stringify([v.level, v.title, text]), () => [
    icon({ ok: 'ok', warn: 'warn', danger: 'danger' }[v.level], 'big'),
    el('div', {}, el('p', { class: 'verdict-title' }, v.title), v.notes.map((n) => el('p', {}, n))),
  ]);
  return v;
}

export function drawPeers(mesh, session) {
  const peers = mesh.peers.filter((p) => p.state !== 'left');
  const gone = mesh.peers.length - peers.length;
  setText($('peers-count'), count(peers.length, 'peer'));
  const items = peers.map((p) => ({ key: p.log, sig: JSON.stringify([p, p.name === mesh.self, session?.name, location.hash, mesh.disk]), make: () => peer(p, mesh, session) }));
  keep($('peers'), items);
  setText($('peers-gone'), gone > 0 ? `${count(gone, 'peer')} left for good.` : '');
}

function peer(p, mesh, session) {
  const self = p.name === mesh.self && p.state === 'alive';
  const [word, sign] = words[p.state] ?? [p.state, 'wait'];
  const url = self ? null : dashboard(p);
  const facts = [];
  const at = session && p.rounds[session.name];
  if (at) facts.push(`model of round ${number(at[0])}`);
  facts.push(p.held > 0 ? `holds ${count(p.held, 'update')} (${bytes(p.held_bytes)})` : 'holds no open updates');
  if (self) facts.push(`${bytes(mesh.disk)} on disk`);
  const lag = p.state !== 'alive' ? null : p.vector_lag > 0 ? `${count(p.vector_lag, 'entry', 'entries')} behind` : 'in step';
  return el('li', { class: 'peer', 'data-state': p.state },
    icon(sign),
    el('div', { class: 'peer-text' },
      el('p', { class: 'peer-head' },
        url ? el('a', { href: url, 'data-f': p.log, title: `Dashboard of ${p.name}` }, name(p.name, 'clip')) : name(p.name, 'clip strong'),
        self && el('span', { class: 'tag' }, 'you are here'),
        el('span', { class: 'peer-state' }, lag && p.vector_lag > 0 ? lag : word)),
      el('p', { class: 'sub' }, facts.join(' · '))));
}

export function drawSessions(sessions, selected, filter) {
  $('session-filter-row').hidden = sessions.length <= 8;
  setText($('sessions-count'), sessions.length > 0 ? number(sessions.length) : '');
  const found = sessions.filter((s) => s.name.toLowerCase().includes(filter.toLowerCase()));
  keep($('sessions'), found.slice(0, MAX_SESSIONS).map((s) => ({
    key: s.key, sig: JSON.stringify([s.name, s.state, s.round, s.model, s.config.strategy, s.divergent, s.clash, s.name === selected]), make: () => sessionItem(s, s.name === selected),
  })));
  let note = '';
  if (sessions.length > 0 && found.length === 0) note = 'No session has this in its name.';
  if (found.length > MAX_SESSIONS) note = `${count(found.length - MAX_SESSIONS, 'session')} more; type a part of the name.`;
  setText($('sessions-note'), note);
  $('sessions-empty').hidden = sessions.length > 0;
}

function sessionItem(s, selected) {
  return el('li', {},
    el('a', { class: 'session', href: `#/${encodeURIComponent(s.name)}`, 'aria-current': selected && 'page', 'data-f': s.key },
      el('span', { class: 'session-head' },
        name(s.name, 'clip strong'),
        s.divergent > 0 && el('span', { class: 'tag danger' }, icon('danger'), 'diverges'),
        s.clash?.length > 0 && el('span', { class: 'tag warn' }, 'clash'),
        s.state !== 'open' && el('span', { class: 'tag' }, s.state)),
      el('span', { class: 'sub clip' }, `${s.state === 'closed' ? `${count(s.round, 'round')}` : `round ${number(s.round)}`} · ${s.config.strategy} · `, el('code', {}, short(s.model)))));
}

// The verdict, the peers and the sessions.

import { bytes, count, el, fill, icon, keep, name, names, number, own, setText, short } from './dom.js';

const $ = (id) => document.getElementById(id);

const MAX_SESSIONS = 200; // listed at once; the filter finds the others

const BEHIND = 3; // rounds
const MAX_ROOMY = 8; // peers that get two lines each

const words = {
  alive: ['alive', 'ok'], suspect: ['not met yet', 'wait'], dead: ['dead', 'dead'], left: ['has left', 'left'],
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

/** The live peers that are several rounds behind the others in a session: one or two are what it takes to tell each other. */
function lagging(peers, sessions) {
  const alive = peers.filter((p) => p.state === 'alive');
  const found = new Set();
  for (const s of sessions) {
    const at = (p) => own(p.rounds, s.name)?.[0] ?? 0;
    const newest = Math.max(...alive.map(at));
    if (s.members?.length > 0) alive.filter((p) => s.members.includes(p.name) && newest - at(p) > BEHIND).forEach((p) => found.add(p));
  }
  return [...found];
}

/** What is to be said of the whole: {level, title, notes}. */
export function judge({ mesh, sessions, problem }) {
  const notes = [];
  const here = mesh.peers.filter((p) => p.state !== 'left' && p.state !== 'forgotten');
  const dead = here.filter((p) => p.state !== 'alive');
  const forgetting = dead.filter((p) => p.state === 'forgetting');
  const behind = lagging(here, sessions);
  const torn = sessions.filter((s) => s.divergent > 0);
  const clashing = sessions.filter((s) => s.clash?.length > 0);
  let title = '';
  if (torn.length > 0) {
    title = 'Peers computed different models from the same inputs';
    notes.push(['In ', names(torn.map((s) => s.name)), '. This never happens on sound machines: look for a peer with broken memory or disk, or of another build. The rounds in red say who differs.']);
  }
  if (problem) {
    title = 'This peer is not ready';
    notes.push([problem]);
  }
  if (dead.length > 0) {
    title ||= `${number(dead.length)} of ${count(here.length, 'peer')} ${dead.length === 1 ? 'is' : 'are'} dead`;
    notes.push([names(dead.map((p) => p.name)), dead.length === 1 ? ' does not answer. ' : ' do not answer. ',
      here.length - dead.length === 1 ? 'This peer goes on alone' : 'The others go on', '; their rounds become final once ', dead.length === 1 ? 'it returns or is' : 'they return or are', ' forgotten.']);
  }
  for (const p of forgetting) {
    if (p.waiting_for?.length) notes.push([name(p.name), ' shall be forgotten; ', names(p.waiting_for), ' must agree first.']);
  }
  if (clashing.length > 0) {
    title ||= 'Two sessions have one name';
    notes.push([names(clashing.map((s) => s.name)), ': opened twice with different seeds or settings. One is served by name, the other by its key.']);
  }
  if (!mesh.agreed && torn.length === 0) {
    title ||= 'Peers are catching up';
    notes.push(['Not every live peer has the newest models yet.']);
  }
  if (behind.length > 0) {
    title ||= 'Peers are catching up';
    notes.push([names(behind.map((p) => p.name)), behind.length === 1 ? ' is' : ' are', ' some rounds behind.']);
  }
  if (title) return { level: torn.length > 0 ? 'danger' : 'warn', title, notes };
  const alive = here.length;
  const open = sessions.filter((s) => s.state === 'open').length;
  const running = sessions.length === 0 ? '' : ` ${count(open, 'session is', 'sessions are')} open.`;
  return {
    level: 'ok', title: 'All is well',
    notes: [[alive === 1 ? `One peer runs alone. Join more, and the loss of one loses nothing.${running}` : `${count(alive, 'peer')} are alive and agree on every model.${running}`]],
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
  const dense = peers.length > MAX_ROOMY;
  // In a long list, who does not answer comes first.
  if (dense) peers.sort((a, b) => (a.state === 'alive') - (b.state === 'alive'));
  $('peers').classList.toggle('dense', dense);
  const alive = peers.filter((p) => p.state === 'alive').length;
  setText($('peers-count'), alive === peers.length ? count(alive, 'peer') : `${number(alive)} of ${count(peers.length, 'peer')} alive`);
  keep($('peers'), peers.map((p) => ({
    key: p.log, sig: JSON.stringify([p, p.name === mesh.self, session?.name, location.hash, dense]), make: () => peer(p, mesh, session, dense),
  })));
  setText($('peers-foot'), [`${bytes(mesh.disk)} of models and updates on this peer's disk.`, gone > 0 && `${count(gone, 'peer')} left for good.`].filter(Boolean).join(' '));
}

function peer(p, mesh, session, dense) {
  const self = p.name === mesh.self && p.state === 'alive';
  const [word, sign] = words[p.state] ?? [p.state, 'wait'];
  const url = self ? null : dashboard(p);
  const at = session && own(p.rounds, session.name);
  const round = at && `round ${number(at[0])}`;
  const model = session ? (at ? (dense ? round : `model of ${round}`) : 'no round yet') : '';
  const held = p.held === 0 ? 'holds no updates' : dense ? count(p.held, 'update') : `holds ${count(p.held, 'update')}, ${bytes(p.held_bytes)}`;
  const lag = p.state === 'alive' && p.vector_lag > 0 ? `${number(p.vector_lag)} behind` : '';
  const lines = (dense ? [[model, held, lag]] : [[model, lag], [held]]).map((l) => l.filter(Boolean).join(' · ')).filter(Boolean);
  return el('li', { class: 'peer', 'data-state': p.state },
    icon(sign),
    el('div', { class: 'peer-text' },
      el('p', { class: 'peer-head' },
        url ? el('a', { href: url, 'data-f': p.log, title: `Dashboard of ${p.name}` }, name(p.name, 'clip')) : name(p.name, 'clip strong'),
        self && el('span', { class: 'tag' }, 'you are here'),
        el('span', { class: 'peer-state' }, word)),
      lines.map((line) => el('p', { class: 'sub clip', title: 'Behind: entries of the ledger that it has not shown to have. Updates count until their round is final.' }, line))));
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

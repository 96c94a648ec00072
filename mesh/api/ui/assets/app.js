// What is shown, and what is fetched when. Events say that something changed; the answers of the API say what is.

import * as api from './api.js';
import * as chain from './chain.js';
import { fill, name, setText } from './dom.js';
import { Log } from './events.js';
import { drawLost, link } from './link.js';
import { drawPeers, drawSessions, drawVerdict } from './mesh.js';
import { drawPlots } from './plots.js';
import { drawOpen, drawRound, drawSession, tick } from './round.js';

const $ = (id) => document.getElementById(id);

const EVERY = 5000; // milliseconds between fetches when nothing happens: lag and disk change without an event
const PAGE = 200; // rounds fetched at once
const TAIL = 50; // of the newest rounds that is fetched anew each time
const NOT_FOR_THIS = 'This token may not look at the mesh. One of the role reader or operator may.';
const UNSEEN = 60000; // milliseconds that a hidden page goes on listening
const RECENT = 3; // rounds whose combiners are awaited in the next

const state = {
  mesh: null, sessions: [], problem: '',
  session: null, // the chosen one's info
  rounds: new Map(), // its rounds by number, without updates
  open: null, before: null, // the open round with its updates, and the one before
  combiners: new Map(), // by round: who was in it
  picked: 0, detail: null, rows: false,
  from: 0, // the first round shown; 0: the newest
  busy: false, // metrics of older rounds are being fetched
  lostAt: 0, signedOut: false,
};
const log = new Log();
let stream;

// Choosing: "#/session/round".

function chosen() {
  const [, s = '', r = ''] = location.hash.split('/');
  try {
    return { session: decodeURIComponent(s), round: /^\d{1,15}$/.test(r) ? Number(r) : 0 };
  } catch {
    return { session: '', round: 0 };
  }
}

function choose(session, round) {
  const hash = `#/${encodeURIComponent(session)}${round ? `/${round}` : ''}`;
  if (location.hash !== hash) history.replaceState(null, '', hash);
  sync();
}

/** Brings the state in line with the fragment and with what sessions there are. */
function sync() {
  const want = chosen();
  const s = state.sessions.find((x) => x.name === want.session) ?? state.sessions[0] ?? null;
  if (s?.key !== state.session?.key) {
    Object.assign(state, { rounds: new Map(), open: null, before: null, combiners: new Map(), detail: null, rows: false, from: 0, busy: false });
  }
  state.session = s;
  const picked = s && s.name === want.session ? Math.min(want.round, s.round) : 0;
  if (picked !== state.picked) Object.assign(state, { picked, detail: null, rows: false });
  soon();
  draw();
}

// Fetching: one at a time, and again when something changed meanwhile, but never more than about a third of the time.

let running = false;
let wanted = false;
let timer = 0;
let due = 0; // when the timer runs out
let rest = 400;
let free = 0; // until when nothing but what people do makes it fetch
let outs = 0; // how often it has signed out

/** Plans the next fetch; one that is planned for sooner stays. */
function plan(ms) {
  const at = performance.now() + ms;
  if (timer && due <= at) return;
  clearTimeout(timer);
  due = at;
  timer = setTimeout(refresh, ms);
}

function soon(ms = 150) {
  wanted = true;
  if (!running) plan(ms === 0 ? 0 : Math.max(ms, free - performance.now()));
}

async function refresh() {
  timer = 0;
  running = true;
  wanted = false;
  const began = performance.now();
  const before = outs;
  try {
    const [mesh, sessions] = await Promise.all([api.mesh(), api.sessions()]);
    Object.assign(state, { mesh, sessions, problem: '' });
    const was = state.session?.key;
    const want = chosen().session;
    state.session = sessions.find((s) => s.key === was && (s.name === want || !want)) ?? sessions.find((s) => s.name === want) ?? sessions[0] ?? null;
    if (state.session?.key !== was) sync();
    if (state.session) await refreshSession(state.session);
    if (outs !== before) return; // these are answers from before
    if (state.signedOut || !stream) await signedIn();
    if (outs !== before) return;
    if (!stream) listen();
    reached();
  } catch (err) {
    if (err instanceof api.Refused && err.status === 401) signOut('');
    else if (err instanceof api.Refused && err.status === 403) signOut(NOT_FOR_THIS);
    else if (err instanceof api.Refused && err.status === 429) rest = EVERY; // what is shown stays; asking less is all there is to do
    else if (err instanceof api.Refused) {
      // It answers, if only that it cannot yet.
      state.problem = err.message;
      if (!state.mesh) state.mesh = await api.mesh().catch(() => null);
      if (!stream) listen();
    } else if (!(err instanceof TypeError) && err.name !== 'TimeoutError') throw err;
    else unreachable();
  } finally {
    running = false;
    const took = performance.now() - began;
    rest = Math.min(10000, Math.max(rest > 3000 ? rest / 2 : 300, 2 * took));
    free = performance.now() + rest;
    plan(wanted ? rest : Math.max(rest, document.hidden ? 4 * EVERY : EVERY));
    draw();
  }
}

async function refreshSession(s) {
  const last = s.round;
  const tail = Math.max(1, last - TAIL + 1);
  const [open, list] = await Promise.all([last > 0 ? api.round(s.name, last) : null, api.rounds(s.name, tail, TAIL)]);
  if (state.session?.key !== s.key) return;
  for (const r of list) state.rounds.set(r.round, r);
  state.open = open;
  await learnCombiners(s, last);
  state.before = state.rounds.get(last - 1) ?? null;
  if (state.picked > 0 && !(state.detail?.round === state.picked && state.detail.state === 'final')) {
    const picked = state.picked;
    const detail = picked === last ? open : await api.round(s.name, picked);
    if (state.picked === picked && state.session?.key === s.key) state.detail = detail;
  }
  const { from, n } = shown();
  if (from < tail) await fetchRounds(s, from, Math.min(from + n, tail) - 1, true);
  if (!state.busy) older(s, tail);
}

/** Learns who was in the last rounds, which changes no more than seldom. */
async function learnCombiners(s, last) {
  for (let n = Math.max(1, last - RECENT); n < last; n++) {
    const summary = state.rounds.get(n);
    if (!summary || summary.combiners === 0 || state.combiners.get(n)?.of === summary.combiners) continue;
    const r = await api.round(s.name, n);
    state.combiners.set(n, { of: summary.combiners, who: r.updates.map((u) => u.combiner) });
  }
  for (const n of state.combiners.keys()) if (n < last - RECENT) state.combiners.delete(n);
}

/** Fetches rounds from..to; those that are final are not fetched again. */
async function fetchRounds(s, from, to, anew) {
  const settled = (n) => state.rounds.has(n) && (!anew || state.rounds.get(n).state === 'final');
  while (from <= to && settled(from)) from++;
  while (to >= from && settled(to)) to--;
  for (; from <= to; from += PAGE) {
    const list = await api.rounds(s.name, from, Math.min(PAGE, to - from + 1));
    if (state.session?.key !== s.key) return;
    for (const r of list) state.rounds.set(r.round, r);
  }
}

/** Fetches what the plots still lack, newest first and without holding anything else up. */
async function older(s, tail) {
  const first = Math.max(1, s.round - Number($('span').value) + 1);
  let to = tail - 1;
  while (to >= first && state.rounds.has(to)) to--;
  if (to < first) return;
  state.busy = true;
  try {
    for (; to >= first && state.session?.key === s.key; to -= PAGE) {
      await fetchRounds(s, Math.max(first, to - PAGE + 1), to, false);
      draw();
    }
  } catch (err) {
    console.info('older rounds come later', err.message);
  } finally {
    if (state.session?.key === s.key) state.busy = false;
    draw();
  }
}

// Drawing: at most once a frame, and only what changed.

let frame = 0;

function draw() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    drawAll();
  });
}

function shown() {
  const last = state.session?.round ?? 0;
  const n = chain.columns();
  const newest = Math.max(1, last - n + 1);
  return { last, n, from: state.from === 0 ? newest : Math.max(1, Math.min(state.from, newest)) };
}

function drawAll() {
  const { mesh, session } = state;
  $('login').hidden = !state.signedOut;
  $('all').hidden = state.signedOut || !mesh;
  if (state.signedOut || !mesh) return;
  fill($('where'), JSON.stringify([mesh.self, mesh.mesh]), () => ['Peer ', name(mesh.self), ' of mesh ', name(mesh.mesh)]);
  const v = drawVerdict(state);
  // What was so before the connection was lost is no verdict.
  $('verdict').hidden = state.lostAt > 0;
  document.title = `${state.lostAt ? '?' : { ok: '✓', warn: '△', danger: '✕' }[v.level]} ${mesh.self} · ${mesh.mesh} · fedmesh`;
  drawPeers(mesh, session);
  drawSessions(state.sessions, session?.name, $('session-filter').value);
  $('none').hidden = state.sessions.length > 0;
  $('session').hidden = !session;
  if (state.sessions.length === 0) setText($('create'), `fedmesh session create demo --seed seed.npz --peers ${location.origin}`);
  if (session) drawChosen(session);
  log.draw(session?.name);
}

function drawChosen(session) {
  drawSession(session);
  const known = new Set([...state.combiners.values()].flatMap((c) => c.who));
  drawOpen(session, state.open, known, state.before);
  const { last, n, from } = shown();
  const peers = rowsOf(from, Math.min(last, from + n - 1));
  const full = session.config.target_combiners || Math.max(known.size, state.open?.combiners ?? 0, 1);
  chain.drawChain({
    from, last, n, peers, have: (r) => state.rounds.get(r), selected: state.picked,
    share: Math.min(1, (state.open?.combiners ?? 0) / full), onSelect: (r) => choose(session.name, r === state.picked ? 0 : r),
  });
  drawRound(session, state.picked > 0 ? state.detail : null, state.rows, () => {
    state.rows = !state.rows;
    draw();
  });
  const first = Math.max(1, last - Number($('span').value) + 1);
  const list = [];
  for (let r = first; r <= last; r++) if (state.rounds.has(r)) list.push(state.rounds.get(r));
  drawPlots(list, state.busy);
}

/** The peers that have a row: the mesh's, and who else has a word in the rounds shown. */
function rowsOf(from, to) {
  const all = new Set(state.mesh.peers.filter((p) => p.state === 'alive' || p.state === 'suspect' || p.state === 'dead' || p.state === 'forgetting').map((p) => p.name));
  for (let r = from; r <= to; r++) {
    const info = state.rounds.get(r);
    for (const p of Object.keys(info?.computed ?? {})) all.add(p);
  }
  return [...all].sort();
}

// The connection.

function listen() {
  stream = new api.Stream({
    event: (e) => {
      log.add(e);
      if (e.session === state.session?.name && e.state === 'amended') state.rounds.delete(e.round);
      soon();
      draw();
    },
    open: () => {
      linked();
      soon(0);
    },
    lost: unreachable,
  });
}

function reached() {
  if (!stream) link('', 'connecting');
  else if (state.lostAt && stream.source?.readyState === EventSource.OPEN) linked(); // a fetch had failed, the stream never did
}

function linked() {
  link('live', 'live');
  state.lostAt = 0;
  drawLost(state);
}

function unreachable() {
  state.lostAt ||= Date.now();
  link('lost', 'connection lost');
  drawLost(state);
  soon(1000);
}

// Signing in.

function signOut(why) {
  setText($('login-error'), why || $('login-error').textContent);
  if (state.signedOut) return;
  outs++;
  state.signedOut = true;
  stream?.close();
  stream = null;
  state.lostAt = 0;
  $('who').hidden = true;
  link('', 'not signed in');
  drawLost(state);
  drawAll();
  $('token').focus();
}

async function signedIn() {
  state.signedOut = false;
  $('token').value = '';
  setText($('login-error'), '');
  const before = outs;
  const who = await api.whoami().catch(() => ({}));
  if (outs !== before) return;
  $('who').hidden = !who.name;
  if (who.name) fill($('who-name'), JSON.stringify(who), () => [name(who.name), who.role ? `, ${who.role}` : '']);
}

$('sign-out').addEventListener('click', async () => {
  await api.logout().catch(() => {});
  signOut('');
  soon(0);
});

$('login-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  setText($('login-error'), '');
  try {
    await api.login($('token').value.trim());
    soon(0);
  } catch (err) {
    setText($('login-error'), { 401: 'The mesh does not know this token.', 403: NOT_FOR_THIS }[err.status] ?? `Signing in failed: ${err.message}`);
    $('token').select();
  }
});

// What people do.

function move(to) {
  const { last, n } = shown();
  state.from = to >= last - n + 1 ? 0 : Math.max(1, to);
  soon(0);
  draw();
}

$('chain-oldest').addEventListener('click', () => move(1));
$('chain-older').addEventListener('click', () => move(shown().from - shown().n));
$('chain-newer').addEventListener('click', () => move(shown().from + shown().n));
$('chain-newest').addEventListener('click', () => move(Infinity));
$('goto').addEventListener('submit', (e) => {
  e.preventDefault();
  const n = Number($('goto-round').value);
  if (!state.session || !Number.isInteger(n) || n < 1) return;
  const r = Math.min(n, state.session.round);
  move(r - Math.floor(shown().n / 2));
  choose(state.session.name, r);
});
chain.keys((at, by) => {
  const { last, n, from } = shown();
  const to = Math.max(1, Math.min(last, at + by));
  if (to < from) move(to);
  else if (to >= from + n) move(to - n + 1);
  drawAll();
  document.querySelector(`[data-round="${to}"]`)?.focus();
});
$('round-close').addEventListener('click', () => {
  const r = state.picked;
  choose(state.session.name, 0);
  drawAll();
  document.querySelector(`[data-round="${r}"]`)?.focus();
});
$('session-filter').addEventListener('input', draw);
$('span').addEventListener('change', () => soon(0));
$('event-kind').addEventListener('change', (e) => {
  log.filter.type = e.target.value;
  draw();
});
$('event-here').addEventListener('change', (e) => {
  log.filter.here = e.target.checked;
  draw();
});
$('event-text').addEventListener('input', (e) => {
  log.filter.text = e.target.value;
  draw();
});
addEventListener('hashchange', sync);
addEventListener('resize', draw);
// Browsers open few connections to one peer, for all tabs together: one that nobody looks at gives its own back after a while.
let unseen;
document.addEventListener('visibilitychange', () => {
  clearTimeout(unseen);
  if (document.hidden) unseen = setTimeout(() => stream?.close(), UNSEEN);
  else {
    if (stream && !stream.source) stream.connect();
    soon(0);
  }
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
setInterval(() => {
  tick();
  drawLost(state);
}, 1000);
refresh();

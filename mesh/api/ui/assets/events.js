// Events as they happen: what one update or one round brings from several peers is one line.

import { count, el, keep, name, names, number, setText, short, visible } from './dom.js';

const $ = (id) => document.getElementById(id);

const KEEP = 500; // lines in memory
const SHOW = 100; // lines on the page
const MERGE = 40; // how far back a line is looked for that an event belongs to

export class Log {
  constructor() {
    this.lineCount = 0;
    this.lines = []; // newest first: {key, ids, time, type, session, sign, peers, event, n}
    this.seen = 0;
    this.seq = 0; // of the last event; a peer counts them from its start on
    this.filter = { type: 'all', text: '', here: false };
  }

  add(e) {
    const missed = this.seq > 0 && e.seq > this.seq + 1 ? e.seq - this.seq - 1 : 0;
    this.seq = e.seq;
    if (missed > 0) this.push(`missed ${this.seen}`, { type: 'missed', time: e.time, count: missed });
    const key = [e.type, e.session ?? '', e.round ?? '', e.combiner ?? '', e.id ?? '', e.state ?? '', e.type === 'peer' || e.type === 'warning' ? `${this.seen}` : e.digest ?? ''].join('\n');
    this.seen++;
    const merges = (e.type === 'round' || e.type === 'update') && e.peer;
    const line = merges && this.lines.slice(0, MERGE).find((l) => l.key === key);
    if (line) {
      if (!line.peers.includes(e.peer)) line.peers.push(e.peer);
      return;
    }
    this.push(key, e);
  }

  push(key, e) {
    this.lines.unshift({ key, n: ++this.lineCount, time: new Date(e.time), peers: e.peer ? [e.peer] : [], event: e });
    this.lines.length = Math.min(this.lines.length, KEEP);
  }

  draw(session) {
    const f = this.filter;
    const found = this.lines.filter((l) => (f.type === 'all' || l.event.type === f.type || (f.type === 'round' && l.event.type === 'model'))
      && (!f.here || !l.event.session || l.event.session === session)
      && (f.text === '' || plain(l).toLowerCase().includes(f.text.toLowerCase())));
    keep($('events'), found.slice(0, SHOW).map((l) => ({ key: String(l.n), sig: l.peers.join('\n'), make: () => row(l) })));
    $('events-table').hidden = found.length === 0;
    const note = $('events-note');
    if (this.lines.length === 0) setText(note, 'Nothing has happened since this page was opened. What happens appears here at once.');
    else if (found.length === 0) setText(note, 'No event is of this kind.');
    else setText(note, found.length > SHOW ? `The last ${SHOW} of ${number(found.length)}.` : '');
  }
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

function row(l) {
  const [word, cls] = kinds[l.event.type] ?? [l.event.type, ''];
  const bad = l.event.type === 'warning' || l.event.state === 'lost' || l.event.state === 'dead';
  return el('tr', { class: bad && 'bad' },
    el('td', { class: 'time' }, el('time', { datetime: l.time.toISOString() }, clock.format(l.time))),
    el('td', {}, el('span', { class: `kind ${cls}` }, word)),
    el('td', { class: 'what' }, sentence(l)));
}

const kinds = { session: ['session', 'k-session'], update: ['update', 'k-update'], round: ['round', 'k-round'], model: ['model', 'k-round'], peer: ['peer', 'k-peer'], warning: ['warning', 'k-warn'], missed: ['missed', ''] };

const plain = (l) => sentence(l).flat(Infinity).map((x) => (typeof x === 'string' ? x : x?.textContent ?? '')).join('');

function sentence({ event: e, peers: who }) {
  const peers = [...who].sort();
  const of = e.session ? [' of ', name(e.session)] : [];
  const digest = e.digest ? el('code', {}, short(e.digest)) : '';
  const round = () => `Round ${number(e.round ?? 0)}`;
  switch (`${e.type} ${e.state ?? ''}`) {
    case 'update held': return ['An update of ', name(e.combiner), ' for ', name(e.session), ' is held by ', names(peers)];
    case 'update lost': return ['An update of ', name(e.combiner), ` left round ${number(e.round ?? 0)}`, of, ': no peer in reach has its bytes'];
    case 'round open': return [round(), of, ' is open'];
    case 'round sealed': return [round(), of, ' was sealed by ', names(peers)];
    case 'round settled': return [round(), of, ' was computed by ', names(peers), ': ', digest];
    case 'round amended': return [round(), of, ' was amended and computed anew by ', names(peers), ': ', digest];
    case 'round final': return [round(), of, ' is final: ', digest];
    default:
  }
  if (e.type === 'model') return ['This peer serves the model of round ', number(e.round ?? 0), of, ': ', digest];
  if (e.type === 'missed') return [`${count(e.count, 'event')} happened while this page was not listening`];
  if (e.type === 'session') return ['Session ', name(e.session), ` is ${visible(e.state)}`];
  if (e.type === 'peer') return ['Peer ', name(e.peer), e.state === 'joined' || e.state === 'left' ? ` ${e.state}` : ` is ${e.state === 'forgetting' ? 'being forgotten' : visible(e.state)}`];
  if (e.type === 'warning') return [e.session ? name(e.session) : '', e.session ? ': ' : '', visible(e.detail ?? '')];
  return [visible(JSON.stringify(e))];
}

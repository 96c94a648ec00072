// What the page says of its connection to the peer.

import { el, fill, icon, name, setText, since } from './dom.js';
import { dashboard } from './mesh.js';

const $ = (id) => document.getElementById(id);

/** Sets the words at the top right, and the sign beside them by kind: live, lost or none. */
export function link(kind, text) {
  $('link').dataset.state = kind;
  setText($('link-state'), text);
}

/** Says, while the connection is lost, for how long, and where the other peers are. */
export function drawLost({ lostAt, signedOut, mesh }) {
  const box = $('lost');
  box.hidden = !lostAt || signedOut;
  if (box.hidden) return;
  const others = (mesh?.peers ?? []).filter((p) => p.name !== mesh.self && p.state === 'alive' && dashboard(p));
  fill(box, JSON.stringify([others.map((p) => p.api), location.hash]), () => [
    icon('warn', 'big'),
    el('div', {}, el('p', { class: 'verdict-title' }, name(mesh?.self ?? 'This peer'), ' does not answer'),
      el('p', {}, 'For ', el('span', { id: 'lost-since' }), ' now. What is below is from before; it is tried again all the time.'),
      others.length > 0 && el('p', {}, 'The others are at ', others.slice(0, 12).map((p, i) => [i > 0 && ', ', el('a', { href: dashboard(p) }, name(p.name))]), '.')),
  ]);
  const at = $('lost-since');
  if (at) setText(at, since(Date.now() - lostAt));
}

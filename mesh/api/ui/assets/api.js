// The peer's API: fetching, signing in, and the stream of events.

/** An answer that is no success. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** How far the peer's clock is ahead of this one, in milliseconds, to about a second. */
export let ahead = 0;

/** The time by the peer's clock. */
export const now = () => Date.now() + ahead;

export async function get(path) {
  const resp = await fetch(path, { headers: { Accept: 'application/json' }, cache: 'no-store', signal: AbortSignal.timeout(20000) });
  const date = Date.parse(resp.headers.get('Date') ?? '');
  // The header has whole seconds, so smaller differences mean nothing.
  if (date) ahead = Math.abs(date - Date.now()) < 2000 ? 0 : date - Date.now();
  if (!resp.ok) throw new Refused(resp.status, await reason(resp));
  return resp.json();
}

async function reason(resp) {
  try {
    const p = await resp.json();
    return String(p.detail || p.title || resp.status).slice(0, 500);
  } catch {
    return `status ${resp.status}`;
  }
}

/** Exchanges a token for a cookie that no script can read. */
export async function login(token) {
  const resp = await fetch('/v1/login', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ token }), signal: AbortSignal.timeout(20000),
  });
  if (!resp.ok) throw new Refused(resp.status, await reason(resp));
}

/** Whose token this page has: {required, name, role}. */
export const whoami = () => get('/v1/login');

export async function logout() {
  await fetch('/v1/login', { method: 'DELETE', signal: AbortSignal.timeout(20000) });
}

const session = (s) => `/v1/sessions/${encodeURIComponent(s)}`;

export const mesh = () => get('/v1/mesh');
export const sessions = async () => (await get('/v1/sessions')).sessions;
export const round = (s, n) => get(`${session(s)}/rounds/${n}`);
export const rounds = async (s, from, limit) => (await get(`${session(s)}/rounds?updates=false&from=${from}&limit=${limit}`)).rounds;
export const modelPath = (s, ref) => `${session(s)}/models/${encodeURIComponent(ref)}`;

/**
 * Listens to the peer's events until it is closed, again and again. The browser's own retrying gives up at the first answer that is
 * no stream, so each attempt is a new one.
 */
export class Stream {
  constructor({ event, open, lost }) {
    this.on = { event, open, lost };
    this.wait = 500;
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.source?.close();
    const source = new EventSource('/v1/events');
    this.source = source;
    source.onopen = () => {
      this.wait = 500;
      this.on.open();
    };
    source.onerror = () => {
      source.close();
      if (source !== this.source) return;
      this.on.lost();
      this.timer = setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(this.wait * 2, 5000);
    };
    for (const type of ['session', 'update', 'round', 'model', 'peer', 'warning']) {
      source.addEventListener(type, (e) => {
        try {
          this.on.event(JSON.parse(e.data));
        } catch (err) {
          console.error('an event cannot be read', err);
        }
      });
    }
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }
}

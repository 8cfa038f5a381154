// Asking the server. Every answer that is no success becomes one Problem with a line for people.
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let csrf = '';
let signedOut = () => {};

export function onSignedOut(act) { signedOut = act; }

export async function get(path) {
  return ask(path, { headers: { accept: 'application/json' } });
}

export async function post(path, body = {}) {
  return ask(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-weir-csrf': csrf },
    body: JSON.stringify(body),
  });
}

/** Who is signed in; null: nobody. */
export async function session() {
  return take(await get('/api/session'));
}

export async function signIn(name, password) {
  return take(await post('/api/session', { name, password }));
}

export async function changePassword(old, fresh) {
  return take(await post('/api/session/password', { old, new: fresh }));
}

function take(told) {
  csrf = told.csrf;
  return told.user;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, credentials: 'same-origin', cache: 'no-store' });
  } catch {
    throw new Problem(0, 'The console does not answer. It may be restarting; this page goes on by itself.');
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401 && path !== '/api/session') signedOut();
  throw new Problem(response.status, body.detail || `The console answered with status ${response.status}.`);
}

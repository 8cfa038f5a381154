// Starts the page: who is signed in, which view, the bar on top. Views are modules of their own.
import { get, onSignedOut, post, session } from './api.js';
import { repaint } from './charts.js';
import { announce, fill, h, notice, prose, text } from './dom.js';
import { count, ms, rate, time } from './format.js';
import { Live } from './live.js';
import { passwordDialog, signInPage } from './signin.js';
import { view as audit } from './views/audit.js';
import { view as backtests } from './views/backtests.js';
import { view as deadLetters } from './views/dead_letters.js';
import { view as decisions } from './views/decisions.js';
import { view as flow } from './views/flow.js';
import { view as latency } from './views/latency.js';
import { view as models } from './views/models.js';
import { view as people } from './views/people.js';
import { view as policies } from './views/policies.js';
import { view as quality } from './views/quality.js';
import { view as review } from './views/review.js';
import { view as trace } from './views/trace.js';

const GROUPS = [
  ['Now', [flow, latency, decisions]],
  ['Over time', [quality, models, policies, backtests]],
  ['Work', [review, trace, deadLetters]],
  ['Console', [people, audit]],
];
const VIEWS = GROUPS.flatMap(([, views]) => views);
const THEMES = ['system', 'light', 'dark'];

const app = document.getElementById('app');
const live = new Live();
let user = null;
let shown = null; // {view, close(), update(live), key(event)}
let parts = null;

const may = (route) => user !== null && user.may.includes(route);

async function begin() {
  onSignedOut(leave);
  try {
    user = await session();
  } catch (problem) {
    fill(app, h('p.boot', problem.message));
    setTimeout(begin, 3_000);
    return;
  }
  if (user) enter();
  else leave();
}

function leave() {
  live.stop();
  live.points = [];
  live.tick = null;
  close();
  user = null;
  parts = null;
  fill(app, signInPage((found) => { user = found; enter(); }));
}

function enter() {
  parts = frame();
  fill(app, parts.root);
  live.start(leave);
  route();
}

function frame() {
  const counts = {};
  const links = {};
  const nav = h('nav', { 'aria-label': 'Views' }, GROUPS.map(([name, views]) => {
    const open = views.filter((view) => !view.needs || may(view.needs));
    return open.length === 0 ? null : [
      h('div.group', { 'aria-hidden': 'true' }, name),
      h('ul', { 'aria-label': name }, open.map((view) => {
        counts[view.name] = h('span.count', { hidden: true });
        links[view.name] = h('a', { href: `#/${view.name}` }, view.title, counts[view.name]);
        return h('li', links[view.name]);
      })),
    ];
  }));
  const state = h('span.chip', 'connecting');
  const [decided, lag, latencyNow, eventTime] = [h('b'), h('b'), h('b'), h('b')];
  const theme = h('button.plain', { type: 'button', onclick: nextTheme });
  const menu = h('details.menu',
    h('summary', user.name, ' ', h('span.unit', user.role)),
    h('div',
      h('button.plain', { type: 'button', onclick: () => { menu.open = false; passwordDialog((found) => { user = found; }); } }, 'Set a new password'),
      h('button.plain', { type: 'button', onclick: () => { menu.open = false; help(); } }, 'Keys'),
      h('button.plain', { type: 'button', id: 'sign-out', onclick: signOut }, 'Sign out')));
  const trouble = h('div', { 'aria-live': 'polite' });
  const main = h('main', { id: 'main', tabIndex: -1 });
  const root = h('div.frame',
    h('header.bar',
      h('a.brand', { href: '#/flow' }, h('img', { src: '/static/icon.svg', alt: '' }), 'Weir'),
      h('div.pulse', state, h('span', decided, ' decided/s'), h('span', lag, ' waiting'), h('span', 'p99 ', latencyNow),
        h('span', 'event time ', eventTime)),
      h('div.end', theme, menu)),
    h('aside.side', nav), main);
  const found = { root, main, trouble, counts, links, state, decided, lag, latencyNow, eventTime, theme };
  showTheme(found);
  return found;
}

async function signOut() {
  await post('/api/session/end').catch(() => null);
  begin();
}

let moved = false;
const root = (element) => element !== document.body && parts.main.contains(element);

function route() {
  if (!parts) return;
  const [name, ...rest] = location.hash.replace(/^#\/?/, '').split('/');
  const view = VIEWS.find((one) => one.name === name && (!one.needs || may(one.needs))) ?? flow;
  close();
  for (const [other, link] of Object.entries(parts.links)) {
    if (other === view.name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  parts.links[view.name].scrollIntoView({ block: 'nearest', inline: 'nearest' });
  document.title = `${view.title} · Weir`;
  const body = h('div');
  fill(parts.main, parts.trouble, h('div.head', h('h1', view.title), h('p', prose(view.about))), body);
  const opened = view.open(body, { live, may, user, rest: rest.map(decodeURIComponent), go, get, post });
  shown = { view, ...opened };
  update(live);
  announce(`${view.title} view`);
  // Who goes by keyboard goes on from the top of what was opened; views that ask for something put the focus there.
  if (moved && !root(document.activeElement)) parts.main.focus({ preventScroll: true });
  moved = true;
}

function go(path) {
  if (location.hash === `#/${path}`) route();
  else location.hash = `#/${path}`;
}

function close() {
  shown?.close?.();
  shown = null;
}

function update() {
  if (!parts) return;
  const { tick } = live;
  if (live.state === 'away') {
    setState('bad', 'not connected');
  } else if (tick) {
    const worst = tick.troubles.length || tick.totals.unwell.length;
    setState(worst ? 'warn' : 'good', worst ? 'needs a look' : 'all well');
  }
  if (tick) {
    text(parts.decided, rate(tick.totals.decided_per_s));
    text(parts.lag, count(tick.totals.lag));
    text(parts.latencyNow, ms(tick.latency_ms.p99));
    text(parts.eventTime, tick.event_time_ms ? time(tick.event_time_ms) : '–');
    badge('quality', tick.alerts_open, 'alerts hold');
    badge('review', (tick.redis.reviews?.open ?? 0) + (tick.redis.reviews?.escalated ?? 0), 'cases wait');
  }
  troubles(tick);
  shown?.update?.(live);
}

function setState(kind, words) {
  parts.state.className = `chip ${kind}`;
  text(parts.state, words);
}

function badge(name, value, words) {
  const found = parts.counts[name];
  if (!found) return;
  found.hidden = !value;
  found.classList.toggle('warn', Boolean(value));
  text(found, count(value));
  found.title = `${value} ${words}`;
}

let told = '';
function troubles(tick) {
  const lines = [];
  if (live.state === 'away') lines.push(['bad', 'This page is not connected.', live.why]);
  else if (tick) {
    if (tick.broker.away) lines.push(['bad', 'The broker does not answer.', `Numbers below stand still; nothing that was accepted is lost. ${tick.broker.away}`]);
    if (tick.redis.away) lines.push(['warn', 'Redis does not answer.', 'Features decide by fallback where they have no state; the review queue cannot be worked. It is rebuilt from the log when Redis is back.']);
    for (const row of tick.stages) {
      if (row.health === 'halted') lines.push(['bad', `${row.name} has stopped.`, row.halted]);
      else if (row.health === 'down' || (row.health === 'absent' && row.kind === 'stage')) {
        lines.push(['warn', `${row.name} does not answer.`, row.kind === 'stage' ? 'Its input waits in the log and is taken up when it is back.' : 'Decisions go on without it.']);
      }
    }
  }
  const now = JSON.stringify(lines);
  if (now === told && parts.trouble.childElementCount === lines.length) return;
  told = now;
  fill(parts.trouble, lines.map(([kind, head, line]) => notice(kind, head, line)));
}

// ---- theme, keys ----
function chosenTheme() {
  return document.documentElement.dataset.theme ?? 'system';
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length];
  if (next === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem('weir-theme', next);
  } catch { /* storage may be off: the choice holds until the page is closed */ }
  showTheme(parts);
  repaint();
}

function showTheme(found) {
  const now = chosenTheme();
  text(found.theme, { system: '◐', light: '☀', dark: '☾' }[now]);
  found.theme.title = `Theme: ${now}`;
  found.theme.setAttribute('aria-label', `Theme: ${now}. Change it`);
}

const JUMPS = { f: 'flow', l: 'latency', d: 'decisions', q: 'quality', m: 'models', p: 'policies', b: 'backtests', r: 'review', t: 'trace', x: 'dead-letters' };
let pendingG = 0;

document.addEventListener('keydown', (event) => {
  if (!parts || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest('input, textarea, select, dialog')) return;
  if (event.key === '?') {
    event.preventDefault();
    help();
  } else if (Date.now() - pendingG < 1_200 && JUMPS[event.key]) {
    pendingG = 0;
    event.preventDefault();
    go(JUMPS[event.key]);
  } else if (event.key === 'g' && !shown?.keys?.g) {
    pendingG = Date.now();
  } else if (event.key === '/') {
    event.preventDefault();
    go('trace');
  } else if (shown?.keys?.[event.key]) {
    event.preventDefault();
    shown.keys[event.key]();
  }
});

function help() {
  const rows = [
    ['?', 'this list'], ['/', 'look for an event'], ...(shown?.keys?.g ? [] : Object.entries(JUMPS).map(([key, name]) => [`g ${key}`, name.replace('-', ' ')])),
    ...(shown?.help ?? []),
  ];
  const dialog = h('dialog', { 'aria-label': 'Keys' },
    h('form', { method: 'dialog' }, h('h2', 'Keys'),
      h('dl.facts', rows.flatMap(([key, what]) => [h('dt', h('kbd', key)), h('dd', what)])),
      h('button', { type: 'submit', autofocus: true }, 'Close')));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

window.addEventListener('hashchange', route);
live.watch(update);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
window.Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
begin();

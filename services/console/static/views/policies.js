// Which policy decides, which is tried, and every move with its difference.
import { announce, card, empty, fill, h, notice } from '../dom.js';
import { time } from '../format.js';

const EVERY_MS = 5_000;

export const view = {
  name: 'policies',
  title: 'Policies',
  about: 'The journal policies.v1. `weir policy check, backtest, shadow, publish, rollback` write it.',
  open(root, { get }) {
    let timer = null;
    let seen = '';
    fill(root, h('p.boot', 'Reading the journal…'));
    async function load() {
      try {
        const found = await get('/api/policies');
        const now = JSON.stringify(found);
        if (now !== seen) {
          seen = now;
          fill(root, drawn(found, get));
        }
      } catch (problem) {
        if (!seen) fill(root, notice('bad', 'No journal.', problem.message));
      }
      timer = setTimeout(load, EVERY_MS);
    }
    load();
    return { close: () => clearTimeout(timer) };
  },
};

function drawn(found, get) {
  return h('div.stack',
    h('dl.tiles', tile('In force', found.in_force || 'none yet'), tile('Tried on some', found.rollout ? `${found.rollout.policy_version} for ${found.rollout.percent}%` : 'none'), tile('In shadow', found.beside.join(', ') || 'none')),
    card('Journal', 'newest first', found.entries.length ? h('ol.moves', found.entries.map((move) => entry(move, get))) : empty('Empty.', 'The deploy step publishes the first policy.')));
}

const tile = (name, value) => h('div.tile', h('dt', name), h('dd.text.mono', value));

function entry(move, get) {
  const kind = move.void ? 'warn' : { publish: 'good', rollback: 'bad', shadow: 'accent' }[move.move] ?? '';
  const who = `by ${move.author}${move.approver ? `, approved by ${move.approver}` : ''}`;
  return h('li', h('span.when', time(move.append_time_ms)),
    h('span', h('span.chip', { class: kind }, move.move === 'publish' && move.percent < 100 ? `publish ${move.percent}%` : move.move)),
    h('div.why', h('strong.mono', move.policy_version), ' ', move.why, ' ', h('span.who', who),
      move.void ? h('p', h('span.chip.warn', 'void'), ` ${move.void}`) : null,
      move.diff ? h('details', h('summary', 'What it changed'), diff(move.diff)) : null,
      whole(move.policy_version, get)));
}

export function diff(lines) {
  return h('pre.diff', { tabIndex: 0 }, lines.split('\n').map((line) => {
    const kind = line.startsWith('@@') ? 'at' : line.startsWith('+') ? 'plus' : line.startsWith('-') ? 'minus' : '';
    return [h('span', { class: kind }, line), '\n'];
  }));
}

function whole(version, get) {
  const body = h('div', h('p.hint', 'Reading…'));
  const element = h('details', h('summary', 'The whole policy'), body);
  element.addEventListener('toggle', async () => {
    if (!element.open || element.dataset.read) return;
    element.dataset.read = 'yes';
    try {
      fill(body, h('pre.source', { tabIndex: 0 }, (await get(`/api/policies/${encodeURIComponent(version)}`)).text));
    } catch (problem) {
      fill(body, h('p.hint', problem.message));
      announce(problem.message);
    }
  });
  return element;
}

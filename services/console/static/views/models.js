// Which model serves, who runs beside, and every move with who, why and its evidence.
import { card, empty, facts, fill, h, notice } from '../dom.js';
import { exact, time } from '../format.js';

const EVERY_MS = 5_000;
const KINDS = { promote: 'good', rollback: 'bad', canary: 'accent', challenge: 'accent', retire: '', note: '' };

export const view = {
  name: 'models',
  title: 'Models',
  about: 'The journal models.v1: append-only, so what is told here cannot have been changed later.',
  open(root, { get }) {
    let timer = null;
    let seen = '';
    fill(root, h('p.boot', 'Reading the journal…'));
    async function load() {
      try {
        const found = await get('/api/models');
        const now = JSON.stringify(found);
        if (now !== seen) {
          seen = now;
          fill(root, drawn(found));
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

function drawn(found) {
  const none = found.champion === 'bootstrap';
  return h('div.stack',
    none ? notice('calm', 'No model yet.', 'The policy’s bootstrap rules decide alone. Enough labels have to mature first; then a model is trained by itself, or by `weir models train`.') : null,
    h('dl.tiles',
      tile('Serves', none ? 'bootstrap' : found.champion), tile('Canary', found.canary ? `${found.canary.model_version} for ${found.canary.percent}%` : 'none'),
      tile('Beside', found.beside.join(', ') || 'none'), tile('Before', found.before.slice(0, 3).join(', ') || 'none')),
    card('Journal', 'newest first', found.entries.length ? h('ol.moves', found.entries.map(entry)) : empty('Empty.', 'The first training writes its first lines.')));
}

const tile = (name, value) => h('div.tile', h('dt', name), h('dd.text.mono', value));

function entry(move) {
  const kind = move.void ? 'warn' : KINDS[move.move] || '';
  const more = { metrics: move.metrics, made_from: move.made_from, evidence: move.evidence };
  const told = Object.values(more).some((part) => part && Object.keys(part).length);
  return h('li',
    h('span.when', { title: `appended ${exact(move.append_time_ms)}` }, time(move.event_time_ms)),
    h('span', h('span.chip', { class: kind }, move.canary_percent ? `${move.move} ${move.canary_percent}%` : move.move)),
    h('div.why', h('strong.mono', move.model_version), ' ', move.why, ' ', h('span.who', `by ${move.actor}`),
      move.void ? h('p', h('span.chip.warn', 'void'), ` ${move.void}`) : null,
      told ? h('details', h('summary', 'Evidence'), Object.entries(more).filter(([, part]) => part && Object.keys(part).length).map(([name, part]) => h('div', h('h3', name.replaceAll('_', ' ')), facts(part)))) : null));
}

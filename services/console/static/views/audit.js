// Who did what: the newest of audit.v1.
import { card, empty, fill, h, notice, table } from '../dom.js';
import { time } from '../format.js';

const EVERY_MS = 5_000;

export const view = {
  name: 'audit',
  title: 'Audit',
  about: 'The newest of audit.v1: who did what, when, from where. Append-only.',
  needs: 'GET /api/audit',
  open(root, { get }) {
    let timer = null;
    let seen = '';
    const who = h('select', { onchange: () => { seen = ''; load(); } }, h('option', { value: 'people' }, 'what people did'), h('option', { value: 'all' }, 'services too'));
    const list = h('div', h('p.boot', 'Reading…'));
    fill(root, h('div.stack', h('div.row', h('label', 'Show', who)), list));
    async function load() {
      clearTimeout(timer);
      try {
        const { entries: every } = await get('/api/audit');
        const entries = every.filter((entry) => who.value === 'all' || entry.role !== 'service');
        const now = JSON.stringify(entries);
        if (now !== seen) {
          seen = now;
          fill(list, card('Entries', 'newest first', entries.length ? table('Audit entries', [{ head: 'when', tight: true }, { head: 'who' }, { head: 'as' }, { head: 'did', tight: true }, { head: 'with' }, { head: 'why' }, { head: 'from' }],
            entries.map((entry) => [time(entry.time_ms), h('strong', entry.actor), entry.role, entry.action, h('span.mono', entry.subject), h('span.two', { title: entry.why }, entry.why), entry.origin])) : empty('Nothing yet.', 'Sign-ins, reviews and requeues are told here.')));
        }
      } catch (problem) {
        if (!seen) fill(list, notice('bad', 'Not now.', problem.message));
      }
      timer = setTimeout(load, EVERY_MS);
    }
    load();
    return { close: () => clearTimeout(timer) };
  },
};

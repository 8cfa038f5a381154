// What was refused and why; sending it once more after the cause is mended.
import { announce, card, empty, facts, fill, h, notice, table, text } from '../dom.js';
import { time } from '../format.js';

const AGAIN = new Set(['events.raw.v1', 'outcomes.raw.v1']);
const ROUTE = 'POST /api/dead-letters/requeue';

export const view = {
  name: 'dead-letters',
  title: 'Dead letters',
  about: 'Every refused record with its own bytes and a cause.',
  open(root, { get, post, may }) {
    const chosen = new Map();
    const code = h('select', { onchange: load }, h('option', { value: '' }, 'all causes'));
    const again = h('button', { type: 'button', disabled: true, onclick: ask }, 'Send once more');
    const said = h('p.hint', { role: 'status' });
    const list = h('div', h('p.boot', 'Looking…'));
    fill(root, h('div.stack', h('div.row', h('label', 'Cause', code), h('button', { type: 'button', onclick: load }, 'Look again'), may(ROUTE) ? again : null, said), list));
    load();

    async function load() {
      chosen.clear();
      changed();
      try {
        const found = await get(`/api/dead-letters?limit=50${code.value ? `&code=${encodeURIComponent(code.value)}` : ''}`);
        if (code.options.length === 1) code.append(...found.codes.map((name) => h('option', { value: name }, name.replaceAll('_', ' '))));
        fill(list, card('The newest', `${found.letters.length === 50 ? 'the last 50' : found.letters.length}`, found.letters.length ? rows(found.letters) : empty('Nothing was refused.', code.value ? 'Not for this cause.' : 'Every record so far was accepted or recognised as a repeat.')));
      } catch (problem) {
        fill(list, notice('bad', 'Not now.', problem.message));
      }
    }

    function rows(letters) {
      const boxes = letters.map((letter) => box(letter));
      return table('Dead letters', [{ head: may(ROUTE) ? allBox(boxes) : '', tight: true }, { head: 'when', tight: true }, { head: 'cause', tight: true }, { head: 'field', tight: true }, { head: 'came to', tight: true }, { head: 'event' }, { head: 'why' }],
        letters.map((letter, at) => ({ pick: () => show(letter), cells: [
          boxes[at], h('button.plain', { type: 'button', onclick: () => show(letter) }, time(letter.append_time_ms)), h('span.chip.bad', letter.cause.error_code.replaceAll('_', ' ')), letter.cause.error_field || '',
          h('span.mono', `${letter.cause.origin_topic}[${letter.cause.origin_partition}]@${letter.cause.origin_offset}`), h('span.mono.clip', { title: letter.event_id ?? '' }, letter.event_id ?? ''), h('span.two', { title: letter.cause.error_message }, letter.cause.error_message)] })));
    }

    function box(letter) {
      if (!may(ROUTE)) return '';
      const can = AGAIN.has(letter.cause.origin_topic);
      return h('input', { type: 'checkbox', disabled: !can, title: can ? '' : 'Refused between our own stages: replay the log instead',
        'aria-label': `Choose ${letter.partition}:${letter.offset}`, onchange: (event) => {
          if (event.target.checked) chosen.set(`${letter.partition}:${letter.offset}`, [letter.partition, letter.offset]);
          else chosen.delete(`${letter.partition}:${letter.offset}`);
          changed();
        } });
    }

    function allBox(boxes) {
      return h('input', { type: 'checkbox', 'aria-label': 'Choose all', onchange: (event) => {
        for (const each of boxes) {
          if (!each.disabled && each.checked !== event.target.checked) each.click();
        }
      } });
    }

    function changed() {
      again.disabled = chosen.size === 0;
      text(again, chosen.size ? `Send ${chosen.size} once more` : 'Send once more');
    }

    function show(letter) {
      const dialog = h('dialog.wide', { 'aria-label': `Dead letter ${letter.partition}:${letter.offset}` }, h('div.stack',
        h('header.row', h('h2', `Dead letter ${letter.partition}:${letter.offset}`), h('span.hint', time(letter.append_time_ms))),
        facts({ ...letter.cause, key: letter.key, headers: letter.headers.map(([name, value]) => `${name}: ${value}`) }),
        h('h3', letter.cut ? 'As it was sent (cut)' : 'As it was sent'), h('pre.source', { tabIndex: 0 }, letter.value || 'nothing at all'),
        h('div.row', h('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, 'Close'),
          letter.event_id ? h('a', { href: `#/trace/${encodeURIComponent(letter.event_id)}${letter.customer_id ? `/${encodeURIComponent(letter.customer_id)}` : ''}`, onclick: () => dialog.close() }, 'Trace this event') : null)));
      dialog.addEventListener('close', () => dialog.remove());
      document.body.append(dialog);
      dialog.showModal();
    }

    function ask() {
      const dialog = h('dialog', { 'aria-label': 'Send once more' }, h('form', { method: 'dialog' }, h('h2', `Send ${chosen.size} once more?`),
        h('p', 'Their own bytes go to the topic that they came to. What was accepted meanwhile is a repeat and gets no second decision; what is refused again is a new dead letter. It is noted under your name.'),
        h('div.row', h('button.main', { type: 'button', onclick: () => { dialog.close(); send(); } }, 'Send'), h('button', { type: 'submit' }, 'Cancel'))));
      dialog.addEventListener('close', () => dialog.remove());
      document.body.append(dialog);
      dialog.showModal();
    }

    async function send() {
      again.disabled = true;
      try {
        const found = await post('/api/dead-letters/requeue', { places: [...chosen.values()] });
        const line = `${found.sent} sent once more${found.left ? `, ${found.left} left: refused between our own stages` : ''}.`;
        await load();
        text(said, line);
        announce(line);
      } catch (problem) {
        text(said, problem.message);
        changed();
      }
    }
    return {};
  },
};

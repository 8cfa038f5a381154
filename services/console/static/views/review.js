// The review bench: the queue at the left, one case at the right, everything by keyboard.
import { announce, card, empty, facts, fill, h, notice, table, text } from '../dom.js';
import { ago, count, duration, exact, money, percent, score, time } from '../format.js';
import { history } from './trace.js';

const EVERY_MS = 3_000;
// A claim lasts a quarter of an hour; who still works on the case keeps it.
const RENEW_MS = 5 * 60_000;
const SHELVES = [['', 'To do'], ['mine', 'Mine'], ['escalated', 'Escalated'], ['judged', 'On their way'], ['overflowed', 'Overflowed'], ['closed', 'Closed']];

export const view = {
  name: 'review',
  title: 'Review',
  about: 'Highest expected loss first. Claim a case, look, say what it was and why.',
  needs: 'GET /api/reviews',
  open(root, { get, post, user, rest, live }) {
    const shelf = h('select', { onchange: () => { seen = ''; load(); } }, SHELVES.map(([value, name]) => h('option', { value }, name)));
    const list = h('ul.cases', { 'aria-label': 'Cases' });
    const queue = h('section.card', { 'aria-label': 'Queue' }, list);
    const bench = h('div.stack', { 'aria-live': 'off' });
    const said = h('p.hint', { role: 'status' });
    const waiting = h('span.hint');
    let cases = [];
    let at = rest[0] ?? null;
    let seen = '';
    let timer = null;
    let open = null; // the case on the bench, as the server last told it
    let past = null; // its event's history
    let busy = false;
    fill(root, h('div.stack',
      h('div.row', h('label', 'Shelf', shelf), h('button.main', { type: 'button', onclick: next }, 'Take the next'), waiting, said),
      h('div.bench', h('div.stack', queue, keyLine()), bench)));
    load();

    async function load() {
      clearTimeout(timer);
      try {
        const query = shelf.value === 'mine' ? '?mine=true' : shelf.value ? `?shelf=${shelf.value}` : '';
        cases = (await get(`/api/reviews${query}`)).cases;
        const now = JSON.stringify(cases.map((one) => [one.case_id, one.claim?.analyst, one.shelf, one.verdict, one.opinions.length]));
        if (now !== seen) {
          seen = now;
          drawList();
        }
        if (!at && cases.length) select(cases[0].case_id, false);
        else if (at && !open) show(at);
        else if (!at) fill(bench, empty('Nothing to look at.', 'Cases come when a decision says “review”.'));
        if (open?.claim?.analyst === user.name && open.claim.until_ms - Date.now() < 15 * 60_000 - RENEW_MS) await renew();
      } catch (problem) {
        seen = '';
        fill(list, h('li', notice('bad', 'The queue cannot be worked now.', problem.message)));
      }
      timer = setTimeout(load, EVERY_MS);
    }

    function drawList() {
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
      fill(list, cases.length ? cases.map((one) => h('li', row(one))) : h('li', empty('Nothing waits here.', shelf.value ? 'Look at another shelf.' : 'Cases come when a decision says “review”.')));
      if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
      mark();
    }

    function row(one) {
      const button = h('button', { type: 'button', onclick: () => select(one.case_id, false) },
        h('strong', money(one.amount_minor, one.currency)), h('span', badges(one)),
        h('span.minor', one.reasons[0]?.text ?? ''), h('span.minor', `loss ${money(one.expected_loss_minor, one.house_currency)}`));
      button.dataset.id = one.case_id;
      return button;
    }

    function mark() {
      for (const button of list.querySelectorAll('button')) {
        if (button.dataset.id === at) button.setAttribute('aria-current', 'true');
        else button.removeAttribute('aria-current');
      }
    }

    function select(id, focus) {
      if (id !== at) {
        open = null;
        past = null;
      }
      at = id;
      mark();
      const button = list.querySelector(`[data-id="${CSS.escape(id)}"]`);
      button?.scrollIntoView({ block: 'nearest' });
      if (focus) button?.focus();
      show(id);
    }

    async function show(id) {
      try {
        const found = await get(`/api/reviews/${encodeURIComponent(id)}`);
        if (at !== id) return;
        open = found;
        draw();
        if (!past || past.id !== id) {
          past = { id, events: null };
          const told = await get(`/api/events/${encodeURIComponent(found.event_id)}?customer=${encodeURIComponent(found.customer_id)}`).catch((problem) => ({ events: [], problem }));
          if (at !== id) return;
          past = { id, ...told };
          draw();
        }
      } catch (problem) {
        if (at === id) fill(bench, notice('bad', 'Not shown.', problem.message));
      }
    }

    function draw() {
      const one = open;
      const mine = one.claim?.analyst === user.name;
      const canJudge = mine && one.shelf !== 'closed';
      const writes = verdictForm.contains(document.activeElement);
      fill(bench,
        h('section.card', { 'aria-label': 'Case' },
          h('header', h('h2', `${money(one.amount_minor, one.currency)} at ${one.terminal_id}`), h('p.mono', one.case_id)),
          h('p', badges(one), ' ', one.reasons.map((reason) => h('span.chip', { title: reason.code }, reason.text))),
          facts({
            customer: one.customer_id, event: one.event_id, when: exact(one.event_time_ms), country: one.country, channel: one.channel,
            score: `${score(one.score)} (${percent(one.score)} likely fraud, by ${one.model_version})`,
            expected_loss: money(one.expected_loss_minor, one.house_currency), rules: one.rule_hits.join(', '), policy: one.policy_version,
            opened: `${time(one.opened_time_ms)} (${ago(one.opened_time_ms, one.now_ms)})`, due: time(one.due_time_ms),
            verdicts_needed: one.verdicts_needed > 1 ? `${one.verdicts_needed}, by different people` : null,
            default_action: one.default_action ? `${one.default_action}: people had no room for it` : null,
          }),
          h('div.work',
            h('button', { type: 'button', disabled: one.shelf === 'closed', onclick: claim }, mine ? 'Keep it longer' : 'Claim', h('kbd', 'c')),
            h('button.danger', { type: 'button', disabled: !canJudge, onclick: () => ask('fraud') }, 'Fraud', h('kbd', 'f')),
            h('button.safe', { type: 'button', disabled: !canJudge, onclick: () => ask('genuine') }, 'Genuine', h('kbd', 'g')),
            h('button', { type: 'button', disabled: !one.claim || (!mine && user.role === 'analyst'), onclick: release }, 'Release', h('kbd', 'r')),
            h('span.hint', claimLine(one, mine))),
          verdictForm),
        one.opinions.length || one.trail.length ? card('History of the case', null, ways(one)) : null,
        past?.problem ? notice('warn', 'The event’s trace is not there.', past.problem.message) : past?.events ? past.events.map(history) : h('p.boot', 'Reading the event’s trace…'));
      if (writes) why.focus(); // it was taken out and put back
    }

    const why = h('input', { name: 'why', required: true, maxLength: 2000, autocomplete: 'off', size: 40, placeholder: 'Customer confirmed by phone…' });
    const confirm = h('button.main', { type: 'submit' }, 'Send');
    let verdict = 'fraud';
    const verdictForm = h('form.row', { hidden: true, onsubmit: judge }, h('label', 'What did you see? It is kept with the verdict.', why), confirm, h('button', { type: 'button', onclick: cancel }, 'Cancel'));
    verdictForm.addEventListener('keydown', (event) => { if (event.key === 'Escape') cancel(); });

    function ask(which) {
      if (open?.claim?.analyst !== user.name) {
        tell('Claim it first: c');
        return;
      }
      verdict = which;
      text(confirm, which === 'fraud' ? 'It was fraud' : 'It was genuine');
      verdictForm.hidden = false;
      why.focus();
    }

    function cancel() {
      verdictForm.hidden = true;
      why.value = '';
      list.querySelector('[aria-current]')?.focus();
    }

    async function judge(event) {
      event.preventDefault();
      await act(async () => {
        const found = await post(`/api/reviews/${encodeURIComponent(at)}/verdict`, { verdict, why: why.value });
        const done = at;
        cancel();
        tell(found.is_final ? `Said: ${verdict}. It becomes a label.` : `Said: ${verdict}. Somebody else has to agree.`);
        const following = neighbour(1) ?? neighbour(-1);
        cases = cases.filter((one) => one.case_id !== done);
        seen = '';
        if (following && following !== done) select(following, true);
        else show(done);
      });
    }

    const claim = () => act(async () => {
      open = { ...open, ...(await post(`/api/reviews/${encodeURIComponent(at)}/claim`)) };
      draw();
      tell('Yours for a quarter of an hour.');
    });
    const renew = async () => { open = { ...open, ...(await post(`/api/reviews/${encodeURIComponent(at)}/claim`)) }; };
    const release = () => act(async () => {
      open = { ...open, ...(await post(`/api/reviews/${encodeURIComponent(at)}/release`)) };
      draw();
      tell('Released.');
    });
    async function next() {
      await act(async () => {
        const found = await post('/api/reviews/next');
        tell('Yours for a quarter of an hour.');
        seen = '';
        at = null;
        open = null;
        past = null;
        select(found.case_id, false);
      });
    }

    async function act(work) {
      if (busy) return;
      busy = true;
      try {
        await work();
      } catch (problem) {
        tell(problem.message);
        if (at) show(at);
      } finally {
        busy = false;
      }
      load();
    }

    function tell(line) {
      text(said, line);
      announce(line);
    }

    function neighbour(step) {
      const place = cases.findIndex((one) => one.case_id === at);
      return cases[place + step]?.case_id;
    }

    const move = (step) => () => {
      const to = at === null ? cases[0]?.case_id : neighbour(step);
      if (to) select(to, true);
    };
    return {
      close: () => clearTimeout(timer),
      update() {
        const shelves = live.tick?.redis?.reviews;
        text(waiting, shelves ? `${count(shelves.open)} open · ${count(shelves.escalated)} escalated · ${count(shelves.judged)} on their way` : '');
      },
      keys: { j: move(1), k: move(-1), c: () => at && claim(), f: () => ask('fraud'), g: () => ask('genuine'), r: () => open?.claim && release(), n: next },
      help: [['j', 'next case'], ['k', 'case before'], ['n', 'take the best one that waits'], ['c', 'claim; again: keep it longer'], ['f', 'it was fraud'], ['g', 'it was genuine'], ['r', 'release'], ['Esc', 'leave the reason']],
    };
  },
};

function keyLine() {
  return h('p.keys', [['j', 'next'], ['k', 'before'], ['c', 'claim'], ['f', 'fraud'], ['g', 'genuine'], ['r', 'release'], ['?', 'all keys']].map(([key, what]) => h('span', h('kbd', key), ` ${what}`)));
}

function badges(one) {
  return [
    one.is_overdue ? h('span.chip.bad', 'overdue') : null, one.is_disputed ? h('span.chip.bad', 'disputed') : null,
    one.verdicts_needed > 1 ? h('span.chip.accent', `${one.opinions.length} of ${one.verdicts_needed} verdicts`) : null,
    one.claim ? h('span.chip.accent', one.claim.analyst) : null,
    ['judged', 'closed', 'overflowed'].includes(one.shelf) ? h('span.chip', { class: one.verdict === 'fraud' ? 'bad' : one.verdict ? 'good' : '' }, one.verdict ? `${one.shelf === 'judged' ? 'on its way: ' : ''}${one.verdict}` : one.shelf) : null,
  ];
}

function claimLine(one, mine) {
  if (one.shelf === 'closed') return `Closed: ${one.resolution}`;
  if (!one.claim) return 'Nobody has it.';
  return mine ? `Yours for another ${duration(one.claim.until_ms - one.now_ms)}.` : `${one.claim.analyst} has it for another ${duration(one.claim.until_ms - one.now_ms)}.`;
}

function ways(one) {
  const rows = [
    ...one.opinions.map((opinion) => [opinion.time_ms, opinion.analyst, `said ${opinion.verdict}`, opinion.why]),
    ...one.trail.filter((entry) => !one.opinions.some((opinion) => opinion.time_ms === entry.time_ms)).map((entry) => [entry.time_ms, entry.actor, entry.action.replace('review.', '').replaceAll('_', ' '), entry.why]),
  ].sort((a, b) => a[0] - b[0]);
  return table('History of the case', [{ head: 'when', tight: true }, { head: 'who' }, { head: 'did' }, { head: 'why' }], rows.map(([when, ...cells]) => [time(when), ...cells]));
}

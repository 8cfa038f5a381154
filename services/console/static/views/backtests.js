// A policy on everything that was decided: what would have changed.
import { announce, card, empty, facts, fill, h, notice, prose, table, text } from '../dom.js';
import { count, percent, time } from '../format.js';

const ROUTE = 'POST /api/backtests';
const ACTIONS = ['approve', 'challenge', 'review', 'decline'];

export const view = {
  name: 'backtests',
  title: 'Backtests',
  about: 'What a policy would have done with everything decided so far, by the same code as live; velocity, fuses and budget included.',
  open(root, { get, post, may, rest, go }) {
    const list = h('div', h('p.boot', 'Looking…'));
    const one = h('div');
    const run = h('div');
    fill(root, h('div.stack', list, one, run));
    load();
    if (rest[0]) show(rest[0]);

    async function load() {
      try {
        const found = await get('/api/backtests');
        fill(list, card('Results', 'of `weir policy backtest` and of this page', found.backtests.length ? table('Backtests', [{ head: 'run', tight: true }, { head: 'policy' }, { head: 'against' }, { head: 'events', n: true }, { head: 'changes', n: true }, { head: 'by' }],
          found.backtests.map((row) => ({ pick: () => go(`backtests/${encodeURIComponent(row.name)}`), selected: row.name === rest[0], cells: [h('a', { href: `#/backtests/${encodeURIComponent(row.name)}` }, time(row.run_ms)), h('span.mono', row.policy_version), row.against ?? 'what was decided', count(row.events), `${count(row.changed)} (${percent(row.changed / Math.max(1, row.events), 2)})`, row.by ?? ''] })))
          : empty('None yet.', 'Run one below, or with `weir policy backtest my-policy.yaml`.')));
        if (may(ROUTE) && found.can_run) fill(run, form());
        else fill(run, h('p.hint', prose(found.can_run ? 'Running one needs the role risk, supervisor or admin.' : 'This console runs beside no data directory: run `weir policy backtest` where the mesh keeps its data.')));
      } catch (problem) {
        fill(list, notice('bad', 'Not now.', problem.message));
      }
    }

    async function show(name) {
      try {
        fill(one, report(await get(`/api/backtests/${encodeURIComponent(name)}`)));
      } catch (problem) {
        fill(one, notice('bad', 'Not shown.', problem.message));
      }
    }

    function form() {
      const policy = h('textarea', { rows: 12, required: true, spellcheck: false, 'aria-label': 'Policy, YAML' });
      const said = h('p.error', { role: 'alert' });
      const button = h('button.main', { type: 'submit' }, 'Run the backtest');
      const start = h('button', { type: 'button', onclick: async () => {
        try {
          const { in_force: version } = await get('/api/policies');
          policy.value = (await get(`/api/policies/${encodeURIComponent(version)}`)).text;
          policy.focus();
        } catch (problem) {
          text(said, problem.message);
        }
      } }, 'Begin with the one in force');
      return card('Try a policy', 'it decides nothing: publishing is `weir policy publish`', h('form.stack', { onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        text(button, 'Running…');
        text(said, '');
        try {
          const found = await post('/api/backtests', { policy: policy.value });
          announce('The backtest is done');
          go(`backtests/${encodeURIComponent(found.stored)}`);
        } catch (problem) {
          text(said, problem.message);
        } finally {
          button.disabled = false;
          text(button, 'Run the backtest');
        }
      } }, policy, said, h('div.row', button, start)));
    }
    return {};
  },
};

function report(found) {
  const who = found.population;
  return h('div.stack',
    card(`${found.policy_version} on ${count(who.events)} events`, `${time(who.from_ms)} to ${time(who.to_ms)}, event time`,
      h('p', h('strong', `${count(found.changed)} would be decided otherwise`), ` (${percent(found.changed / Math.max(1, who.events), 2)}). Old action down, new across:`),
      table('Actions, old down and new across', [{ head: '' }, ...ACTIONS.map((name) => ({ head: name, n: true }))], ACTIONS.map((old) => [h('span', { class: `action ${old}` }, old), ...ACTIONS.map((fresh) => (old === fresh ? h('span.hint', count(found.moves[old][fresh])) : count(found.moves[old][fresh])))]))),
    card('How good', `money in ${who.currency}`, table('Figures', [{ head: '' }, { head: 'events', n: true }, { head: 'precision', n: true }, { head: 'recall', n: true }, { head: 'fraud', n: true }, { head: 'genuine', n: true }],
      [['declined', found.declined], ['not approved', found.stopped]].flatMap(([kind, sides]) => Object.entries(sides).map(([name, side]) => [`${kind}, ${name}`, count(side.events), share(side.precision), share(side.recall), count(side.fraud_stopped), count(side.genuine_stopped)]))),
    h('p.hint', `Precision, recall and money speak of ${count(who.labelled)} labelled events that were not declined, ${count(who.let_through)} of them let through by chance and weighted by 1/propensity. Nothing is known of ${count(who.blocked_unseen)} declined without that chance.`)),
    card('Rules', null, found.rules.length ? table('Rules', [{ head: 'rule' }, { head: 'action' }, { head: 'hits', n: true }, { head: 'before', n: true }, { head: 'rate', n: true }, { head: 'expected', n: true }, { head: 'precision', n: true }, { head: 'fuse', n: true }],
      found.rules.map((rule) => [rule.name, h('span', { class: `action ${rule.action}` }, rule.action), count(rule.hits), count(rule.hits_before), percent(rule.rate, 3), rule.expected_rate === null ? '' : percent(rule.expected_rate, 3), share(rule.precision), rule.hits_with_fuse_blown ? count(rule.hits_with_fuse_blown) : '']))
      : empty('It has no rules.', 'Scores and limits decide alone.')),
    card('Reviews a day', null, facts(Object.fromEntries(Object.entries(found.reviews).map(([name, load]) => [name, `${load.mean_a_day.toFixed(1)} on average, ${count(load.most_a_day)} at most${load.over_budget ? `, ${count(load.over_budget)} over budget` : ''}`])))));
}

const share = (value) => (value.value === null ? 'unknown' : `${percent(value.value)} (${percent(value.low)}–${percent(value.high)})`);

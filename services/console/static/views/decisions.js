// What is decided: the mix over time, which rules hit, and the newest ones.
import { lines } from '../charts.js';
import { bars, card, empty, fill, h, table, text } from '../dom.js';
import { clock, count, minute, money, ms, percent, rate, score } from '../format.js';

const SHOWN = 25;
const ACTIONS = ['approve', 'challenge', 'review', 'decline'];

export const view = {
  name: 'decisions',
  title: 'Decisions',
  about: 'Counted exactly for the mix; rules, reasons and the newest ones from a sample of up to 200 a second.',
  open(root, { go }) {
    const chart = lines(
      ACTIONS.map((name) => ({ name, colour: name })),
      { label: 'Decisions a second by action, over the last 15 minutes', unit: (value) => `${rate(value)}/s`, x: minute, title: clock, stacked: true, shortest: 60_000 },
    );
    const stopped = lines(
      ACTIONS.slice(1).map((name) => ({ name, colour: name })),
      { label: 'Decisions a second that did not simply approve, over the last 15 minutes', unit: (value) => `${rate(value)}/s`, x: minute, title: clock, stacked: true, shortest: 60_000 },
    );
    const tiles = Object.fromEntries(ACTIONS.map((name) => [name, { value: h('dd'), under: h('div.under') }]));
    const rules = h('div');
    const reasons = h('div');
    const tail = h('div');
    let paused = false;
    const only = h('select', h('option', { value: '' }, 'all actions'), ACTIONS.map((name) => h('option', name)));
    const pause = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => {
      paused = !paused;
      pause.setAttribute('aria-pressed', String(paused));
      text(pause, paused ? 'Go on' : 'Hold still');
    } }, 'Hold still');
    fill(root, h('div.stack',
      h('dl.tiles', ACTIONS.map((name) => h('div.tile', h('dt', { class: `action ${name}` }, name), tiles[name].value, tiles[name].under))),
      h('div.columns', card('All', 'decisions a second, last 15 minutes', chart.element), card('Not simply approved', 'decisions a second, last 15 minutes', stopped.element)),
      h('div.columns', card('Rules that hit', 'share of sampled decisions, last minute', rules), card('First reason', 'share of sampled decisions, last minute', reasons)),
      card('The newest', null, h('div.row', h('label', 'Show', only), pause), tail)));
    return {
      close: () => { chart.close(); stopped.close(); },
      update({ tick, points }) {
        if (!tick) return;
        const all = tick.stages.find((row) => row.name === 'decisions')?.actions ?? {};
        const total = Object.values(all).reduce((sum, value) => sum + value, 0);
        for (const name of ACTIONS) {
          text(tiles[name].value, total ? percent((all[name] ?? 0) / total, 2) : '–');
          text(tiles[name].under, `${count(all[name] ?? 0)} since the service started`);
        }
        const columns = points.map((point) => ({ x: point.time_ms, y: ACTIONS.map((name) => (point.decided_per_s === null ? null : point.actions?.[name] ?? 0)) }));
        chart.draw(columns);
        stopped.draw(columns.map(({ x, y }) => ({ x, y: y.slice(1) })));
        const { sampled, hits, reasons: first } = tick.rules;
        fill(rules, shares(hits, sampled, 'No rule has hit in the last minute.'));
        fill(reasons, shares(first, sampled, 'No decision in the last minute.'));
        if (!paused) fill(tail, newest(tick.tail.filter((row) => !only.value || row.action === only.value).slice(0, SHOWN), go));
      },
    };
  },
};

function shares(rows, sampled, nothing) {
  if (!rows.length) return empty(nothing, sampled ? `${count(sampled)} decisions were looked at.` : 'No payment has been decided.');
  return bars(rows.map(([name, hits]) => ({ name, value: hits, shown: percent(hits / sampled, 2) })));
}

function newest(rows, go) {
  if (!rows.length) return empty('Nothing to show.', 'Decisions appear here as they are made.');
  return table('The newest decisions', [
    { head: 'decided', tight: true }, { head: 'event' }, { head: 'customer' }, { head: 'amount', n: true }, { head: 'score', n: true }, { head: 'action', tight: true }, { head: 'first reason' }, { head: 'took', n: true },
  ], rows.map((row) => {
    const path = `trace/${encodeURIComponent(row.event_id)}/${encodeURIComponent(row.customer_id)}`;
    return {
      pick: () => go(path),
      cells: [
        clock(row.decision_append_time_ms),
        h('a.mono.clip', { href: `#/${path}`, title: row.event_id }, row.event_id),
        h('span.mono.clip', { title: row.customer_id }, row.customer_id),
        money(row.amount_minor, row.currency), score(row.score), h('span', { class: `action ${row.action}` }, row.action),
        h('span.one', { title: row.reasons[0]?.text ?? '' }, row.reasons[0]?.text ?? ''), ms(row.latency_ms),
      ],
    };
  }));
}

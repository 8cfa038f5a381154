// How good decisions are: precision by day, what has moved, and what was done about it.
import { lines } from '../charts.js';
import { card, empty, facts, fill, h, notice, table } from '../dom.js';
import { count, day as dayOf, percent, time } from '../format.js';

const EVERY_MS = 15_000;
const DAYS_MAPPED = 28;
const FEATURES_MAPPED = 12;
const PSI = [0.1, 0.25]; // the usual words for it: some, much

export const view = {
  name: 'quality',
  title: 'Quality',
  about: 'Precision at the alert budget as it was promised, as it is estimated without labels, and as labels showed it later; what drift found.',
  open(root, { get }) {
    let chart = null;
    let timer = null;
    let seen = '';
    fill(root, h('p.boot', 'Reading drift’s report…'));
    async function load() {
      try {
        const found = await get('/api/quality');
        const now = JSON.stringify(found);
        if (now !== seen) {
          seen = now;
          chart?.close();
          chart = null;
          draw(found);
        }
      } catch (problem) {
        if (!seen) fill(root, notice('bad', 'No report.', problem.message));
      }
      timer = setTimeout(load, EVERY_MS);
    }
    function draw({ report, alerts, moves }) {
      const parts = [];
      if (!report) {
        parts.push(card('Precision', null, empty('No report yet.', 'Drift writes one after its first whole day of event time.')), held(alerts.open));
      } else {
        chart = precision(report);
        parts.push(card(`Precision at ${report.settings.budget_per_day} alerts a day`, `model ${report.model.champion}${report.model.has_reference ? '' : ', without a reference'} · event time ${dayOf(report.event_time_ms)}`,
          report.days.length ? chart.element : empty('No whole day yet.', 'Each day of event time adds a point.'), explained()));
        parts.push(held(alerts.open));
        parts.push(card('What has moved', 'distance of each feature from training (PSI), by day', heat(report.days)));
      }
      parts.push(card('What was done', 'moves of models, by retraining or by people', done(moves)));
      parts.push(card('All alerts', null, history(alerts.entries)));
      fill(root, h('div.stack', parts));
    }
    load();
    return { close() { clearTimeout(timer); chart?.close(); } };
  },
};

function held(open) {
  if (!open.length) return notice('calm', 'No alert holds.', 'Nothing has moved beyond what chance explains.');
  return card(`${open.length === 1 ? 'One alert holds' : `${open.length} alerts hold`}`, null, h('ul.moves', open.map((alert) => h('li',
    h('span.when', `since ${dayOf(alert.window_start_ms)}`),
    h('span', h(`span.chip.${alert.is_harm ? 'bad' : 'warn'}`, alert.is_harm ? 'harm' : 'change')),
    h('div.why', h('p', alert.text), h('p.who', `What is done: ${alert.action}`),
      h('details', h('summary', 'Evidence'), facts({ kind: alert.kind, subject: alert.subject, segment: alert.segment, model: alert.model_version, [alert.statistic]: alert.value, threshold: alert.threshold, records: alert.records, ...parsed(alert.evidence) })))))));
}

function precision(report) {
  const chart = lines([
    { name: 'promised', colour: 'faint', dashed: true }, { name: 'estimated', colour: 'series-2' },
    { name: 'realised, reviewed', colour: 'series-1' }, { name: 'realised, matured', colour: 'series-5' },
  ], { label: 'Precision by day', unit: (value) => percent(value, 1), x: (value) => report.days[Math.round(value)]?.day.slice(5) ?? '', title: (value) => report.days[Math.round(value)]?.day ?? '', from0: false, points: true, spanGaps: true });
  chart.draw(report.days.map((day, at) => ({
    x: at, y: [day.validated, day.estimated?.precision ?? null, day.realised.reviewed?.precision ?? null, day.realised.matured?.precision ?? null],
  })));
  return chart;
}

const explained = () => h('p.hint', 'Promised: on validation data when the model was trained. Estimated: from scores alone, without labels. Reviewed: what analysts said of the day’s alerts. Matured: when every label of the day is old enough.');

function heat(days) {
  const last = days.slice(-DAYS_MAPPED);
  const most = {};
  for (const day of last) for (const [name, value] of Object.entries(day.psi)) most[name] = Math.max(most[name] ?? 0, value ?? 0);
  const names = Object.keys(most).sort((a, b) => most[b] - most[a]).slice(0, FEATURES_MAPPED);
  if (!names.length) return empty('Nothing to compare with yet.', 'A model brings the distributions of its training; from then on each day is set beside them.');
  return h('div.scroll', { tabIndex: 0, role: 'region', 'aria-label': 'Distance of features from training' }, h('table.heat', h('caption.unseen', 'PSI by feature and day'),
    h('thead', h('tr', h('th', { scope: 'col' }, 'feature'), last.map((day) => h('th', { scope: 'col', title: day.day }, day.day.slice(8))))),
    h('tbody', names.map((name) => h('tr', h('th.tight', { scope: 'row' }, name), last.map((day) => {
      const value = day.psi[name];
      const level = value === undefined || value === null ? '' : value >= PSI[1] ? '.l2' : value >= PSI[0] ? '.l1' : '';
      return h(`td${level}`, { title: `${name}, ${day.day}: ${value === undefined || value === null ? 'not measured' : value.toFixed(4)}` }, value === undefined || value === null ? '·' : value.toFixed(2).replace(/^0/, ''));
    }))))));
}

function done(moves) {
  if (!moves.length) return empty('Nothing yet.', 'Trainings, promotions and rollbacks are told here with why.');
  return h('ul.moves', moves.slice(0, 12).map((move) => h('li', h('span.when', time(move.event_time_ms)), h('span', h('span.chip', move.move)), h('div.why', h('span.mono', move.model_version), ` ${move.why} `, h('span.who', `by ${move.actor}`)))));
}

function history(entries) {
  if (!entries.length) return empty('None.', 'Alerts are told when something moves beyond chance, and again when it ends.');
  return table('All alerts', [{ head: 'told', tight: true }, { head: '' }, { head: 'kind', tight: true }, { head: 'what' }, { head: 'records', n: true }],
    entries.slice(0, 60).map((alert) => [time(alert.window_end_ms), h(`span.chip.${alert.status === 'raised' ? 'warn' : 'good'}`, alert.status), `${alert.kind.replaceAll('_', ' ')}${alert.is_harm ? ' (harm)' : ''}`, alert.text, count(alert.records)]));
}

function parsed(textOfEvidence) {
  try {
    return JSON.parse(textOfEvidence);
  } catch {
    return {};
  }
}

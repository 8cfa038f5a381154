// The flow: one card a stage in the order in which an event passes them, who stands beside, broker and store.
import { spark } from '../charts.js';
import { bars, card, empty, fill, h, text } from '../dom.js';
import { bytes, count, ms, rate } from '../format.js';

const CHAIN = ['ingestion', 'features-customer', 'features-terminal', 'scoring', 'decisions'];
const AFTER = ['ingestion-outcomes', 'feedback', 'review'];
const LEADS = new Set([...CHAIN.slice(0, -1), 'ingestion-outcomes']);
const WORDS = { up: 'running', partly: 'some instances are down', halted: 'stopped', starting: 'starting', down: 'does not answer', absent: 'not started' };
const KINDS = { up: 'good', partly: 'warn', halted: 'bad', starting: 'warn', down: 'bad', absent: 'bad' };
// Below this a backlog is what is on its way anyway.
const LAG_MANY = 5_000;

export const view = {
  name: 'flow',
  title: 'Flow',
  about: 'Every stage in the order in which a payment passes it. One update a second.',
  open(root) {
    const cards = new Map();
    const chain = h('ol.flow', { 'aria-label': 'From payment to decision' });
    const loop = h('ol.flow.short', { 'aria-label': 'From outcome to label' });
    const beside = h('div');
    const refused = h('div');
    const store = h('div');
    fill(root, h('div.stack',
      h('section', { 'aria-label': 'Payments' }, h('h2.unseen', 'Payments'), chain),
      h('section.stack', { 'aria-label': 'Outcomes' }, h('h2', 'What payments turned out to be, and what people look into'), loop),
      h('div.columns', card('Beside the flow', 'each a process of its own', beside),
        card('Refused', 'since the processes started, by cause', refused), card('Log and store', null, store))));
    return {
      update(live) {
        const { tick, points } = live;
        if (!tick) return;
        for (const row of ordered(tick.stages)) {
          let one = cards.get(row.name);
          if (!one) {
            one = hop(row);
            cards.set(row.name, one);
            (CHAIN.includes(row.name) ? chain : loop).append(one.root);
          }
          one.update(row, points);
        }
        fill(beside, besideTable(tick.stages.filter((one) => one.kind === 'beside')));
        fill(refused, refusedBars(tick.totals.rejects));
        fill(store, storeFacts(tick));
      },
    };
  },
};

const ordered = (rows) => [...CHAIN, ...AFTER].map((name) => rows.find((row) => row.name === name)).filter(Boolean);

function hop(row) {
  const dot = h('span.dot');
  const state = h('span.unseen');
  const perSecond = h('span');
  const line = h('div.line');
  const [lag, age, step, instances, version] = [h('dd'), h('dd'), h('dd'), h('dd'), h('dd')];
  const inForce = h('dt', 'in force');
  const says = h('p.says');
  const root = h('li.hop',
    h('div.lead', h('h3', dot, row.name, state), h('div.rate', perSecond, h('span.unit', ' /s'))),
    line,
    h('dl', h('dt', 'waiting'), lag, h('dt', { title: 'Age of the newest record of the last batch when it was committed' }, 'input age'), age,
      h('dt', { title: 'Thinking time for one record' }, 'work'), step, h('dt', 'instances'), instances, inForce, version),
    says);
  root.title = `${row.inputs.join(', ')} → ${row.outputs.join(', ')}${row.state ? `\nkeeps ${row.state}` : ''}`;
  return {
    root,
    update(now, points) {
      const kind = now.health === 'up' && (now.lag ?? 0) > LAG_MANY ? 'warn' : KINDS[now.health];
      dot.className = `dot ${kind}`;
      root.className = `hop ${kind === 'good' ? '' : kind} ${LEADS.has(now.name) ? 'leads' : ''}`;
      text(state, `: ${WORDS[now.health]}`);
      text(perSecond, rate(now.rate_per_s));
      fill(line, spark(points.slice(-120).map((point) => point.stages?.[now.name]?.[0])));
      text(lag, now.lag === null ? 'unknown' : count(now.lag));
      text(age, now.records ? ms(now.age_ms) : '–');
      text(step, now.step_us === null ? '–' : `${Math.round(now.step_us)} µs`);
      text(instances, `${now.ready} of ${now.instances}`);
      const versions = Object.entries(now.versions).filter(([what]) => what !== 'feature_set' && what !== 'feature set');
      text(version, versions.map(([, found]) => found).join(', '));
      inForce.hidden = version.hidden = versions.length === 0;
      version.title = Object.entries(now.versions).map(([what, found]) => `${what} ${found}`).join('\n');
      const unwell = now.health === 'up' ? [] : [now.halted || `${WORDS[now.health]}. ${now.last_error}`];
      text(says, [...unwell, ...now.notes].join(' · '));
    },
  };
}

function besideTable(rows) {
  if (!rows.length) return empty('Nobody yet.', 'Lookup starts with the mesh; drift and retraining after the first decision.');
  return h('dl.facts', rows.flatMap((row) => [
    h('dt', h('span', { class: `dot ${KINDS[row.health]}` }), ' ', row.name),
    h('dd', [WORDS[row.health], ...row.notes, row.health === 'up' ? '' : row.last_error].filter(Boolean).join(' · ')),
  ]));
}

function refusedBars(rejects) {
  const rows = Object.entries(rejects).sort((a, b) => b[1] - a[1]);
  if (!rows.length) return empty('Nothing was refused.', 'What cannot be accepted goes to dead letters with its cause.');
  return h('div.stack', bars(rows.map(([code, number]) => ({ name: code.replaceAll('_', ' '), value: number, shown: count(number), colour: 'var(--decline)' }))),
    h('p', h('a', { href: '#/dead-letters' }, 'Look at dead letters')));
}

function storeFacts({ broker, redis, model, policy }) {
  const rows = [
    ['Kafka', broker.away ? h('span.chip.bad', 'does not answer') : `answers, ${broker.partitions} partitions`],
    ['Redis', redis.away ? h('span.chip.bad', 'does not answer') : `${bytes(redis.used_bytes)} of ${bytes(redis.limit_bytes)}, ${count(redis.keys)} keys`],
    ['Model', h('a', { href: '#/models' }, model === 'bootstrap' ? 'none yet: the policy decides alone' : model)],
    ['Policy', h('a', { href: '#/policies' }, policy || 'none yet')],
  ];
  return h('dl.facts', rows.flatMap(([name, value]) => [h('dt', name), h('dd', value)]));
}

// How long a payment waits for its decision, and where the time goes.
import { lines } from '../charts.js';
import { bars, card, empty, fill, h, text } from '../dom.js';
import { clock, count, minute, ms } from '../format.js';

const SHARES = ['p50', 'p95', 'p99'];

export const view = {
  name: 'latency',
  title: 'Latency',
  about: 'From the broker’s append of a payment to its append of the decision. From a sample of up to 200 decisions a second; percentiles over ten seconds.',
  open(root) {
    const chart = lines(
      [{ name: 'half within', colour: 'series-1' }, { name: '95% within', colour: 'series-2' }, { name: '99% within', colour: 'series-3' }],
      { label: 'Latency over the last 15 minutes', unit: ms, x: minute, title: clock, shortest: 60_000 },
    );
    const tiles = SHARES.map((share) => ({ share, value: h('dd'), under: h('div.under') }));
    const hops = h('div');
    fill(root, h('div.stack',
      h('dl.tiles', tiles.map(({ share, value, under }) => h('div.tile', h('dt', { p50: 'Half within', p95: '95% within', p99: '99% within' }[share]), value, under))),
      card('Over the last 15 minutes', null, chart.element),
      card('Where the time goes', 'median of each hop: waiting for its batch, work, and the transaction', hops)));
    return {
      close: chart.close,
      update({ tick, points }) {
        if (!tick) return;
        for (const { share, value, under } of tiles) {
          text(value, ms(tick.latency_ms[share]));
          text(under, `of ${count(tick.latency_ms.sampled)} sampled`);
        }
        chart.draw(points.map((point) => ({ x: point.time_ms, y: SHARES.map((share) => point[share] ?? null) })), SHARES.map((share) => tick.latency_ms[share]));
        const found = Object.entries(tick.hops_ms).filter(([, value]) => value !== null);
        fill(hops, found.length
          ? bars(found.map(([name, value]) => ({ name, value, shown: ms(value) })))
          : empty('No decision in the last looks.', 'As soon as payments flow, each hop’s part is shown here.'));
      },
    };
  },
};

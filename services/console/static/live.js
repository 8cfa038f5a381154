// The stream: one picture a second, and the last quarter of an hour as points for charts.
import { session } from './api.js';

const AGAIN_MS = 2_000;
const KEPT_MS = 15 * 60_000;
const SILENT_MS = 20_000;

export class Live {
  constructor() {
    this.tick = null;
    this.points = [];
    this.state = 'connecting'; // live, away
    this.listeners = new Set();
    this.source = null;
  }

  start(ended) {
    this.stop();
    const source = new EventSource('/api/live');
    this.source = source;
    source.addEventListener('past', (event) => { this.points = JSON.parse(event.data).points; });
    source.addEventListener('tick', (event) => this.take(JSON.parse(event.data)));
    source.addEventListener('end', () => { this.stop(); ended(); });
    source.addEventListener('refused', (event) => { this.stop(); this.turn('away', JSON.parse(event.data).detail); });
    source.addEventListener('error', () => {
      this.turn('away', 'The console does not answer. It may be restarting; this page goes on by itself.');
      if (source.readyState === EventSource.CLOSED) this.again = setTimeout(() => this.ask(ended), AGAIN_MS);
    });
  }

  /** The browser has given up, because the answer was no stream: are we still signed in? */
  async ask(ended) {
    try {
      if (await session()) this.start(ended);
      else ended();
    } catch {
      this.again = setTimeout(() => this.ask(ended), AGAIN_MS);
    }
  }

  stop() {
    clearTimeout(this.again);
    clearTimeout(this.silence);
    this.source?.close();
    this.source = null;
  }

  watch(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  take(tick) {
    this.tick = tick;
    const stages = Object.fromEntries(tick.stages.filter((row) => row.kind === 'stage').map((row) => [row.name, [row.rate_per_s, row.lag]]));
    this.points.push({
      time_ms: tick.time_ms, decided_per_s: tick.totals.decided_per_s, lag: tick.totals.lag,
      p50: tick.latency_ms.p50, p95: tick.latency_ms.p95, p99: tick.latency_ms.p99, actions: tick.totals.actions_per_s, stages,
    });
    const oldest = tick.time_ms - KEPT_MS;
    while (this.points.length && this.points[0].time_ms < oldest) this.points.shift();
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.turn('away', 'Nothing has come for 20 seconds.'), SILENT_MS);
    this.turn('live', '');
  }

  turn(state, why) {
    this.state = state;
    this.why = why;
    for (const listener of this.listeners) listener(this);
  }
}

// Chart.js with our colours. Colours are read from the style sheet, so a change of theme draws anew.
import { h } from './dom.js';

const open = new Set();
const style = () => getComputedStyle(document.documentElement);
export const colour = (name) => style().getPropertyValue(`--${name}`).trim();

/**
 * Lines over time or days. series: [{name, colour, dashed, fill}]; options: {label, unit(value), x(value), stacked,
 * small, from0, legend(value)}. draw(columns): [{x, y: [..]}]; a null is a gap.
 */
export function lines(series, options) {
  const canvas = h('canvas', { role: 'img', 'aria-label': options.label });
  const values = series.map(() => h('b'));
  const legend = h('div.legend', series.map((one, at) => {
    const swatch = h('span.swatch');
    swatch.dataset.colour = one.colour;
    return h('span', swatch, `${one.name} `, values[at]);
  }));
  const chart = new window.Chart(canvas, {
    type: 'line',
    data: { datasets: series.map((one) => ({
      label: one.name, data: [], pointRadius: options.points ? 2.5 : 0, pointHitRadius: 6, borderWidth: 1.75, borderDash: one.dashed ? [5, 4] : [],
      fill: one.fill ?? (options.stacked ? 'stack' : false), tension: 0, spanGaps: options.spanGaps ?? false,
    })) },
    options: {
      animation: false, parsing: false, normalized: true, maintainAspectRatio: false, responsive: true,
      interaction: { mode: 'index', intersect: false },
      scales: {
        x: { type: 'linear', ticks: { maxTicksLimit: 7, maxRotation: 0, autoSkipPadding: 20, callback(value) { return options.x(value, this.max - this.min); } }, border: { display: false }, grid: { display: false } },
        y: { stacked: options.stacked ?? false, beginAtZero: options.from0 ?? true, ticks: { maxTicksLimit: 6, callback: (value) => options.unit(value) }, border: { display: false } },
      },
      plugins: {
        legend: { display: false },
        tooltip: { callbacks: {
          title: (items) => (items.length ? options.title?.(items[0].parsed.x) ?? options.x(items[0].parsed.x, 0) : ''),
          label: (item) => ` ${item.dataset.label}: ${options.unit(item.parsed.y)}`,
        } },
      },
    },
  });
  const one = {
    element: h('div', legend, h(`div.chart${options.small ? '.small' : ''}`, canvas)),
    draw(columns, last = []) {
      chart.data.datasets.forEach((set, at) => { set.data = columns.map((column) => ({ x: column.x, y: column.y[at] })); });
      const x = columns.map((column) => column.x);
      if (x.length) {
        chart.options.scales.x.min = options.shortest ? Math.min(Math.min(...x), Math.max(...x) - options.shortest) : Math.min(...x);
        chart.options.scales.x.max = Math.max(...x);
      }
      values.forEach((value, at) => {
        const newest = last[at] ?? [...columns].reverse().find((column) => known(column.y[at]))?.y[at];
        value.textContent = known(newest) ? options.unit(newest) : '–';
      });
      canvas.setAttribute('aria-label', `${options.label}: ${series.map((s, at) => `${s.name} ${values[at].textContent}`).join(', ')}`);
      chart.update('none');
    },
    paint() {
      const line = colour('line');
      const faint = colour('faint');
      for (const axis of Object.values(chart.options.scales)) {
        axis.ticks.color = faint;
        axis.ticks.font = { size: 11 };
        axis.grid.color = line;
      }
      Object.assign(chart.options.plugins.tooltip, {
        backgroundColor: colour('card'), titleColor: colour('ink'), bodyColor: colour('ink'), borderColor: colour('line-strong'), borderWidth: 1, padding: 8, boxWidth: 8, boxHeight: 8, caretSize: 0,
      });
      chart.data.datasets.forEach((set, at) => {
        const shade = colour(series[at].colour);
        set.borderColor = shade;
        set.pointBackgroundColor = shade;
        set.backgroundColor = options.stacked ? `${shade}55` : shade;
      });
      for (const swatch of legend.querySelectorAll('.swatch')) swatch.style.background = colour(swatch.dataset.colour);
      chart.update('none');
    },
    close() {
      open.delete(one);
      chart.destroy();
    },
  };
  one.paint();
  open.add(one);
  return one;
}

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

/** Draw everything anew: the theme has changed. */
export function repaint() {
  for (const chart of open) chart.paint();
}

/** A line of some numbers without axes. */
export function spark(values) {
  const found = values.map((value) => value ?? 0);
  const most = Math.max(...found, 1);
  const step = 100 / Math.max(1, found.length - 1);
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', found.map((value, at) => `${at ? 'L' : 'M'}${(at * step).toFixed(1)} ${(25 - (24 * value) / most).toFixed(1)}`).join(''));
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 100 26');
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(path);
  return svg;
}

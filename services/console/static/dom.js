// Building the page. Text is only ever text here: nothing in this program turns a string into markup.

import { exact } from './format.js';

/** An element: h('td.n', {title: 'x', onclick: f}, 'text', child, [more], null). */
export function h(what, properties, ...children) {
  const [tag, ...classes] = what.split('.');
  const element = document.createElement(tag || 'div');
  if (classes.length) element.className = classes.join(' ');
  const isProperties = properties !== null && typeof properties === 'object'
    && !(properties instanceof Node) && !Array.isArray(properties);
  if (isProperties) set(element, properties);
  else children.unshift(properties);
  append(element, children);
  return element;
}

function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class') element.className = `${element.className} ${value}`.trim();
    else if (name === 'width') element.style.width = value;
    else if (name === 'left') element.style.left = value;
    else if (name === 'colour') element.style.background = value;
    else if (name === 'href' && !/^(#|\/|https?:)/.test(value)) continue;
    else if (name in element && name !== 'list' && name !== 'form') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** What ``element`` holds from now on. */
export function fill(element, ...children) {
  const kept = document.createDocumentFragment();
  append(kept, children);
  element.replaceChildren(kept);
  return element;
}

/** Text that changes often: touched only when it differs, so that nothing flickers and selections stay. */
export function text(element, value) {
  const wanted = String(value);
  if (element.textContent !== wanted) element.textContent = wanted;
  return element;
}

/** Prose of our own with `commands` in it. */
export function prose(line) {
  return String(line).split('`').map((part, at) => (at % 2 ? h('code', part) : part));
}

/** A card with its title. */
export function card(title, note, ...children) {
  return h('section.card', h('header', h('h2', title), note ? h('p', prose(note)) : null), ...children);
}

export function empty(head, why) {
  return h('div.empty', h('strong', head), prose(why));
}

export function notice(kind, head, ...lines) {
  return h(`div.notice.${kind}`, { role: 'status' }, h('p', h('strong', head)), lines.map((line) => h('p', prose(line))));
}

/**
 * A table that a keyboard can scroll. columns: [{head, n, tight}]; rows: arrays of cells; a row may be
 * {cells, pick, selected}: pick is what Enter or a click does.
 */
export function table(caption, columns, rows) {
  const body = rows.map((row) => {
    const cells = Array.isArray(row) ? row : row.cells;
    const line = h('tr', cells.map((cell, at) => h(`td${kinds(columns[at])}`, cell)));
    if (row.pick) {
      line.classList.add('pick');
      line.addEventListener('click', (event) => { if (!event.target.closest('a, button, input, label')) row.pick(); });
    }
    if (row.selected) line.setAttribute('aria-selected', 'true');
    return line;
  });
  return h('div.scroll', { tabIndex: 0, role: 'region', 'aria-label': caption },
    h('table', h('caption.unseen', caption),
      h('thead', h('tr', columns.map((column) => h(`th${kinds(column)}`, { scope: 'col' }, column.head)))),
      h('tbody', body)));
}

const kinds = (column) => `${column.n ? '.n' : ''}${column.tight ? '.tight' : ''}`;

/** Horizontal bars: [{name, value, shown, colour}]. */
export function bars(rows) {
  const most = Math.max(...rows.map((row) => row.value || 0), 0) || 1;
  return h('div.bars', rows.map((row) => [
    h('span', row.name),
    h('div.track', h('div.fill', { width: `${(100 * (row.value || 0)) / most}%`, colour: row.colour })),
    h('span.n', row.shown),
  ]));
}

/** Values by name, as deep as they are; what is empty is left out. */
export function facts(object) {
  const rows = Object.entries(object).filter(([, value]) => value !== null && value !== undefined && value !== '' && !(Array.isArray(value) && value.length === 0));
  return h('dl.facts', rows.flatMap(([name, value]) => (name.endsWith('time_ms') && typeof value === 'number'
    ? [h('dt', name.replace(/_ms$/, '').replaceAll('_', ' ')), h('dd', exact(value))]
    : [h('dt', name.replaceAll('_', ' ')), h('dd', shown(value))])));
}

function shown(value) {
  if (Array.isArray(value)) {
    return value.every((one) => one === null || typeof one !== 'object') ? value.map(plain).join(', ') : value.map((one) => facts(one));
  }
  if (value !== null && typeof value === 'object') return facts(value);
  return plain(value);
}

function plain(value) {
  if (typeof value !== 'number') return String(value);
  return Number.isInteger(value) ? value.toLocaleString('en') : Number(value.toPrecision(5)).toString();
}

/** Says it to people who listen. */
export function announce(line) {
  text(document.getElementById('announcer'), line);
}

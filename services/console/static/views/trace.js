// Everything that happened to one event, hop by hop.
import { announce, card, empty, facts, fill, h, notice } from '../dom.js';
import { duration, exact, money, ms, percent, score, time } from '../format.js';

export const view = {
  name: 'trace',
  title: 'Trace',
  about: 'Everything that happened to one event: found through the index, never by scanning the log.',
  open(root, { get, go, rest }) {
    const id = h('input', { name: 'event', required: true, maxLength: 512, spellcheck: false, value: rest[0] ?? '', size: 30 });
    const customer = h('input', { name: 'customer', maxLength: 512, spellcheck: false, value: rest[1] ?? '', size: 18, placeholder: 'any' });
    const found = h('div', { 'aria-live': 'polite' });
    const form = h('form.row', { role: 'search', onsubmit: (event) => {
      event.preventDefault();
      go(`trace/${encodeURIComponent(id.value.trim())}${customer.value.trim() ? `/${encodeURIComponent(customer.value.trim())}` : ''}`);
    } }, h('label', 'Event', id), h('label', 'Customer', customer), h('button.main', { type: 'submit' }, 'Trace'));
    fill(root, h('div.stack', form, found));
    if (rest[0]) load();
    else {
      fill(found, empty('Which event?', 'Type its id, or choose one in Decisions, Review or Dead letters.'));
      setTimeout(() => id.focus(), 0);
    }
    async function load() {
      fill(found, h('p.boot', 'Looking…'));
      try {
        const told = await get(`/api/events/${encodeURIComponent(rest[0])}${rest[1] ? `?customer=${encodeURIComponent(rest[1])}` : ''}`);
        fill(found, h('div.stack', told.events.length > 1 ? notice('calm', `${told.events.length} customers have an event of this id.`) : null, told.events.map(history)));
        announce(`Event ${rest[0]} found`);
      } catch (problem) {
        fill(found, problem.status === 404 ? empty('No such event.', problem.message) : notice('bad', 'Not now.', problem.message));
      }
    }
    return {};
  },
};

/** One event's history as cards; also what the review bench shows. */
export function history(event) {
  const at = (topic) => event.hops.find((hop) => hop.topic === topic);
  const decided = at('decisions.v1')?.what;
  const scored = at('scores.v1')?.what;
  const accepted = at('events.v1')?.what;
  return h('div.stack',
    summary(event, accepted, scored, decided),
    scored ? contributions(scored) : null,
    decided?.conditions?.length ? conditions(decided.conditions) : null,
    card('The way it went', event.customer_id === null ? 'unknown customer' : `customer ${event.customer_id}`, trail(event)));
}

function summary(event, accepted, scored, decided) {
  if (!decided) {
    const refused = event.dead_letters[0];
    return refused
      ? card('Refused', null, facts({ cause: refused.error_code, why: refused.error_message, stage: refused.stage, field: refused.error_field }))
      : card('On its way', null, empty('Not decided yet.', 'A stage has still to take it; look again in a moment.'));
  }
  const first = event.hops.find((hop) => hop.append_time_ms !== null);
  const last = event.hops.at(-1);
  const label = event.labels.at(-1);
  return card('Decision', exact(last.append_time_ms),
    h('p.verdict', h('span', { class: `action ${decided.action}` }, decided.action), ' ', h('span.unit', `score ${score(scored?.score)}`)),
    facts({
      amount: accepted ? money(accepted.amount_minor, accepted.currency) : null,
      terminal: accepted?.terminal_id, country: accepted?.country, channel: accepted?.channel, device: accepted?.device_id,
      event_time: accepted ? exact(accepted.event_time_ms) : null,
      reasons: decided.reasons.map((reason) => `${reason.text} (${reason.code})`).join(' · '),
      rules: decided.rule_hits.join(', '), model: scored?.model_version, policy: decided.policy_version,
      propensity: decided.propensity === 1 ? null : percent(decided.propensity, 1),
      others_would: [...decided.shadow_verdicts.map((one) => `${one.policy_version}: ${one.action}`), ...(scored?.challenger_scores ?? []).map((one) => `${one.model_version}: ${score(one.score)}`)].join(' · '),
      took: first ? ms(last.append_time_ms - first.append_time_ms) : null,
      known_to_be: label ? `${label.label}, by ${label.label_source} after ${duration(label.label_age_ms)} (version ${label.label_version})` : 'nothing known yet',
    }));
}

function contributions(scored) {
  if (!scored.contributions.length) {
    return card('Why this score', null, h('p.hint', 'Not explained: contributions are computed for events that may be stopped.'));
  }
  const most = Math.max(...scored.contributions.map((one) => Math.abs(one.contribution))) || 1;
  return card('Why this score', `SHAP values, in log odds${scored.explanation_status === 'partial' ? '; partly computed' : ''}`, h('div.shap', scored.contributions.map((one) => {
    const share = (50 * Math.abs(one.contribution)) / most;
    const up = one.contribution > 0;
    return h('div.line', h('span', one.feature), h('span.mono', Number(one.value).toLocaleString('en', { maximumFractionDigits: 3 })),
      h('div.track', { 'aria-hidden': 'true' }, h(`div.fill.${up ? 'up' : 'down'}`, { left: `${up ? 50 : 50 - share}%`, width: `${share}%` })),
      h('span.n', `${up ? '+' : '−'}${Math.abs(one.contribution).toFixed(3)}`));
  })), h('p.hint', 'To the right: made fraud likelier. To the left: less likely.'));
}

function conditions(rows) {
  const groups = new Map();
  for (const one of rows) groups.set(one.of, [...(groups.get(one.of) ?? []), one]);
  return card('Why, and why not', 'how each condition that the policy looked at stood', h('dl.facts.wide', [...groups].flatMap(([of, tests]) => [
    h('dt', of), h('dd.tests', tests.map((one) => h('span', h('span.chip', { class: { yes: 'warn', no: '', unknown: 'accent' }[one.held] }, one.held), ' ', h('code', one.text))))])));
}

function trail(event) {
  const steps = [
    ...event.hops.map((hop) => ({ when: hop.append_time_ms, where: hop, delta: hop.delta_ms, body: what(hop.what) })),
    ...event.dead_letters.map((one) => ({ when: one.append_time_ms, where: one, bad: true, body: facts({ refused_by: one.stage, cause: one.error_code, why: one.error_message, from: `${one.origin_topic}[${one.origin_partition}]@${one.origin_offset}` }) })),
    ...event.outcomes.map((one) => ({ when: one.append_time_ms, where: one, body: facts({ outcome: one.label, by: one.source, id: one.outcome_id, observed: time(one.observed_time_ms), revises: one.revises }) })),
    ...event.orphans.map((one) => ({ when: one.append_time_ms, where: one, bad: true, body: facts({ outcome_given_up: one.outcome_id, why: one.orphan_reason }) })),
    ...event.labels.map((one) => ({ when: one.append_time_ms, where: one, body: facts({ label: one.label, version: one.label_version, by: one.label_source, after: duration(one.label_age_ms) }) })),
  ].sort((a, b) => (a.when ?? 0) - (b.when ?? 0));
  return h('ol.trail', steps.map((step) => h(`li${step.bad ? '.bad' : ''}`,
    h('div.where', h('strong', step.where.topic), h('span.mono', `[${step.where.partition}] @ ${step.where.offset}`), h('span.hint', step.when === null ? '' : exact(step.when)),
      step.delta === null || step.delta === undefined ? null : h('span.chip', `+${ms(step.delta)}`)), step.body)));
}

function what(said) {
  const { features, value, contributions: hidden, conditions: also, reasons, challenger_scores: challengers, shadow_verdicts: shadows, ...rest } = said;
  void [hidden, also, challengers, shadows];
  return [
    facts({ ...rest, ...(reasons ? { reasons: reasons.map((one) => one.code) } : {}) }),
    value === undefined ? null : h('details', h('summary', 'As it was sent'), h('pre.source', { tabIndex: 0 }, value)),
    features ? h('details', h('summary', `${Object.keys(features).length} features`), facts(features)) : null,
  ];
}

// Numbers with their units, times in UTC. A dash is "not known"; zero is zero.
export const NOTHING = '–';
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

export const count = (value) => (known(value) ? Math.round(value).toLocaleString('en') : NOTHING);

export function rate(value) {
  if (!known(value)) return NOTHING;
  return value >= 100 ? Math.round(value).toLocaleString('en') : value >= 10 ? value.toFixed(1) : value.toFixed(value ? 2 : 0);
}

export function ms(value) {
  if (!known(value)) return NOTHING;
  if (value < 10_000) return `${Math.round(value).toLocaleString('en')} ms`;
  return duration(value);
}

export function duration(value) {
  if (!known(value)) return NOTHING;
  const s = Math.round(value / 1000);
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} days`;
}

export const percent = (value, digits = 1) => (known(value) ? `${(100 * value).toFixed(digits)}%` : NOTHING);
export const score = (value) => (known(value) ? value.toFixed(3) : NOTHING);

export function bytes(value) {
  if (!known(value)) return NOTHING;
  return value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(1)} GiB` : `${Math.round(value / 2 ** 20).toLocaleString('en')} MiB`;
}

// ISO 4217: digits behind the point, where they are not two.
const DIGITS = { BIF: 0, CLP: 0, DJF: 0, GNF: 0, ISK: 0, JPY: 0, KMF: 0, KRW: 0, PYG: 0, RWF: 0, UGX: 0, UYI: 0, VND: 0, VUV: 0, XAF: 0, XOF: 0, XPF: 0, BHD: 3, IQD: 3, JOD: 3, KWD: 3, LYD: 3, OMR: 3, TND: 3, CLF: 4, UYW: 4 };
export function money(minor, currency) {
  if (!known(minor)) return NOTHING;
  const digits = DIGITS[currency] ?? 2;
  const shown = (minor / 10 ** digits).toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${shown} ${currency ?? ''}`.trim();
}

const iso = (value) => new Date(value).toISOString();
const valid = (value) => known(value) && value > 0 && value < 8.64e15;
export const clock = (value) => (valid(value) ? iso(value).slice(11, 19) : NOTHING);
/** On an axis of so many milliseconds. */
export const minute = (value, span) => (valid(value) ? iso(value).slice(11, span < 360_000 ? 19 : 16) : NOTHING);
export const day = (value) => (valid(value) ? iso(value).slice(0, 10) : NOTHING);
export const time = (value) => (valid(value) ? `${iso(value).slice(0, 10)} ${iso(value).slice(11, 19)}` : NOTHING);
export const exact = (value) => (valid(value) ? `${iso(value).slice(0, 10)} ${iso(value).slice(11, 23)} UTC` : NOTHING);
export const ago = (value, now) => (valid(value) ? `${duration(Math.max(0, now - value))} ago` : NOTHING);

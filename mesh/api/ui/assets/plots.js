// What combiners report, over rounds: a plot for each metric, drawn by uPlot, and the same as a table.

import { el, fill, keep, name, number, own, setText, value } from './dom.js';

const $ = (id) => document.getElementById(id);

const FEW = 6; // plots shown until all are asked for
const ROWS = 100; // rounds in the table

const plots = new Map(); // by metric: {u, box, out, sig}
let all = false;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const c = (n) => style.getPropertyValue(n).trim();
  return { line: c('--accent'), fill: c('--accent-wash'), grid: c('--line'), text: c('--muted') };
}

/** The metrics' names, most common first. */
export function metricNames(rounds) {
  const seen = new Map();
  for (const r of rounds) for (const m of Object.keys(r.metrics)) seen.set(m, (seen.get(m) ?? 0) + 1);
  return [...seen.keys()].sort((a, b) => seen.get(b) - seen.get(a) || (a < b ? -1 : 1));
}

/** Draws the metrics of rounds, which ascend. */
export function drawPlots(rounds, busy) {
  const withAny = rounds.filter((r) => r.state !== 'open' && Object.keys(r.metrics).length > 0);
  const metrics = metricNames(withAny);
  $('plots-empty').hidden = metrics.length > 0 || busy;
  $('plots-head').hidden = metrics.length === 0;
  $('values').hidden = metrics.length === 0;
  const shown = all ? metrics : metrics.slice(0, FEW);
  keep($('plots'), shown.map((m) => ({ key: m, sig: '', make: () => figure(m) })));
  for (const m of [...plots.keys()]) {
    if (!shown.includes(m)) {
      plots.get(m).u?.destroy();
      plots.delete(m);
    }
  }
  for (const m of shown) plot(m, withAny.filter((r) => Object.hasOwn(r.metrics, m)));
  const more = $('plots-more');
  more.hidden = metrics.length <= FEW;
  setText(more, all ? 'Show fewer' : `Show all ${number(metrics.length)}`);
  more.setAttribute('aria-expanded', String(all));
  more.onclick = () => {
    all = !all;
    drawPlots(rounds, busy);
  };
  if ($('values').open) table(withAny, metrics);
  $('values').ontoggle = () => table(withAny, metrics);
}

function figure(metric) {
  const out = el('span', { class: 'reading' });
  const box = el('div', { class: 'plot', 'aria-hidden': 'true' });
  const summary = el('span', { class: 'unseen' });
  plots.set(metric, { box, out, summary });
  return el('figure', { class: 'metric' }, el('figcaption', {}, name(metric, 'clip strong'), out, summary), box);
}

function plot(metric, rounds) {
  const p = plots.get(metric);
  const width = p.box.clientWidth || 380;
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  const xs = rounds.map((r) => r.round);
  const ys = rounds.map((r) => r.metrics[metric]);
  const last = rounds.at(-1);
  const latest = last ? `${value(last.metrics[metric])} in round ${number(last.round)}` : '';
  p.latest = latest;
  setText(p.out, latest);
  setText(p.summary, ` From ${value(ys[0])} in round ${xs[0]}; least ${value(lowest(ys))}, most ${value(-lowest(ys.map((y) => -y)))}. The values are in the table below.`);
  const sig = JSON.stringify([width, dark]);
  if (p.u && p.sig === sig) {
    if (xs.length !== p.n || xs.at(-1) !== p.x || ys.at(-1) !== p.y || xs[0] !== p.x0) p.u.setData([xs, ys]);
  } else {
    p.u?.destroy();
    p.u = new globalThis.uPlot(options(p, width), [xs, ys], p.box);
    p.sig = sig;
  }
  Object.assign(p, { n: xs.length, x: xs.at(-1), y: ys.at(-1), x0: xs[0] });
}

const lowest = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);

function options(p, width) {
  const c = colours();
  const axis = { stroke: c.text, grid: { stroke: c.grid, width: 1 }, ticks: { show: false }, font: '11px Inter, system-ui, sans-serif' };
  return {
    width, height: 168, padding: [10, 8, 0, 0],
    legend: { show: false },
    scales: { x: { time: false, range: (u, min, max) => (min === max ? [min - 1, max + 1] : [min, max]) } },
    cursor: { sync: { key: 'rounds' }, y: false, points: { size: 7 }, drag: { x: false, y: false } },
    axes: [
      { ...axis, grid: { show: false }, size: 26, gap: 4, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000], values: (u, ticks) => ticks.map((t) => number(t)) },
      { ...axis, size: 50, gap: 6, values: (u, ticks) => ticks.map((t) => value(t)) },
    ],
    series: [{}, { stroke: c.line, fill: c.fill, width: 2, points: { show: (u) => u.data[0].length < 40, size: 5, fill: c.line } }],
    hooks: {
      setCursor: [(u) => {
        const i = u.cursor.idx;
        setText(p.out, i === null || i === undefined ? p.latest : `${value(u.data[1][i])} in round ${number(u.data[0][i])}`);
      }],
    },
  };
}

function table(rounds, metrics) {
  const rows = rounds.slice(-ROWS).reverse();
  fill($('values-table'), JSON.stringify([rows.map((r) => [r.round, r.metrics]), metrics]), () => el('table', {},
    el('caption', {}, `Weighted means, newest round first${rounds.length > ROWS ? `; the last ${ROWS} rounds` : ''}`),
    el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'Round'), metrics.map((m) => el('th', { scope: 'col', class: 'num' }, name(m, 'clip'))))),
    el('tbody', {}, rows.map((r) => el('tr', {}, el('th', { scope: 'row' }, number(r.round)), metrics.map((m) => el('td', { class: 'num' }, value(own(r.metrics, m)))))))));
}

'use strict';
(() => {
const data = JSON.parse(document.getElementById('data').textContent), P = data.points, W = data.walks, K = data.kappas;
const $ = id => document.getElementById(id);
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function el(tag, attrs = {}, ...children) {
  const svg = ['svg', 'line', 'circle', 'polyline', 'text', 'path', 'rect'].includes(tag);
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) if (v !== null && v !== undefined && v !== false) e.setAttribute(k, v === true ? '' : v);
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

// Sprites: each sheet is decoded once, tiles are cut from it
const sheets = {};
for (const [name, s] of Object.entries(data.sheets)) {
  const img = new Image();
  sheets[name] = {...s, img, ready: new Promise(done => { img.onload = done; })};
  img.src = s.uri;
}
const place = (s, i) => [i % s.cols * s.cw, Math.floor(i / s.cols) * s.ch, s.w, s.h];
async function draw(canvas, sheet, i, from, j) {
  const s = sheets[sheet], o = from && sheets[from];
  if (!s) return;
  const ticket = canvas.ticket = {};
  await Promise.all([s.ready, o && o.ready]);
  if (canvas.ticket !== ticket) return; // it was asked for something else meanwhile
  if (canvas.width !== s.w || canvas.height !== s.h) { canvas.width = s.w; canvas.height = s.h; }
  canvas.classList.toggle('small', s.w < 100);
  const c = canvas.getContext('2d', {willReadFrequently: !!o});
  c.drawImage(s.img, ...place(s, i), 0, 0, s.w, s.h);
  if (!o) return;
  const a = c.getImageData(0, 0, s.w, s.h);
  c.drawImage(o.img, ...place(o, j), 0, 0, s.w, s.h);
  const b = c.getImageData(0, 0, s.w, s.h);
  for (let k = 0; k < a.data.length; k += 4) {
    const d = (a.data[k] + a.data[k+1] + a.data[k+2] - b.data[k] - b.data[k+1] - b.data[k+2]) / 765;
    const t = Math.min(1, Math.abs(d) * 1.5), end = d > 0 ? [178, 24, 43] : [33, 102, 172];
    for (let q = 0; q < 3; q++) a.data[k+q] = 247 + (end[q] - 247) * t;
  }
  c.putImageData(a, 0, 0);
}
for (const c of document.querySelectorAll('canvas[data-sheet]')) draw(c, c.dataset.sheet, +c.dataset.at, c.dataset.from, +c.dataset.at);

// Light and dark
const dark = matchMedia('(prefers-color-scheme: dark)'), root = document.documentElement;
const isDark = () => root.dataset.theme ? root.dataset.theme === 'dark' : dark.matches;
function themed() { $('theme').setAttribute('aria-pressed', isDark()); paintMap(); }
$('theme').addEventListener('click', () => { root.dataset.theme = isDark() ? 'light' : 'dark'; themed(); });
dark.addEventListener('change', themed);

// The map
const map = $('map'), n = P.name.length, walkOf = new Map(W.map((w, i) => [w.at, i]));
let at = 0, over = -1, shown = [], xs = [], ys = [];
const words = P.name.map((o, i) => `${o} ${P.target[i]} ${P.said[i]}`.toLowerCase());
function matching() {
  const g = $('map-group').value, which = $('map-which').value, q = $('map-search').value.trim().toLowerCase();
  shown = P.name.map((_, i) => (g === '' || P.group[i] === +g) && (which === '' || (which === 'wrong' ? P.wrong[i] : which === 'flag' ? P.flag[i] : walkOf.has(i))) && (q === '' || words[i].includes(q)));
  const m = shown.filter(Boolean).length;
  $('map-count').textContent = m === n ? `${n.toLocaleString('en')} images` : `${m.toLocaleString('en')} of ${n.toLocaleString('en')} images match; the others are faint.`;
  if (m && !shown[at]) select(shown.indexOf(true));
  paintMap();
}
function paintMap() {
  const box = map.getBoundingClientRect(), dpr = window.devicePixelRatio || 1, w = box.width, h = box.height;
  if (!w) return;
  map.width = Math.round(w * dpr); map.height = Math.round(h * dpr);
  const c = map.getContext('2d'), [mx, my] = P.maps[$('map-method').value], pad = 22, ink = css('--ink'), radius = n > 1200 ? 3.2 : n > 400 ? 4.2 : 5.2;
  c.scale(dpr, dpr);
  xs = mx.map(v => pad + v / 1000 * (w - 2*pad)); ys = my.map(v => h - pad - v / 1000 * (h - 2*pad));
  const order = [...Array(n).keys()].sort((a, b) => shown[a] - shown[b]);
  for (const i of order) {
    c.globalAlpha = shown[i] ? .88 : .1;
    c.fillStyle = P.colours[P.group[i]];
    c.beginPath(); c.arc(xs[i], ys[i], radius, 0, 7); c.fill();
    if (shown[i] && isDark()) { c.strokeStyle = 'rgb(255 255 255 / .4)'; c.lineWidth = .8; c.stroke(); }
    if (shown[i] && P.wrong[i]) { c.strokeStyle = ink; c.lineWidth = n > 1200 ? 1 : 1.6; c.beginPath(); c.arc(xs[i], ys[i], radius + (n > 1200 ? 1.2 : 2), 0, 7); c.stroke(); }
    if (shown[i] && P.flag[i]) { c.strokeStyle = ink; c.lineWidth = 1.4; const r = radius + 5; c.strokeRect(xs[i] - r, ys[i] - r, 2*r, 2*r); }
  }
  c.globalAlpha = 1;
  for (const [i, width] of [[at, 3], [over, 2]]) if (i >= 0) {
    c.strokeStyle = css('--accent'); c.lineWidth = width; c.beginPath(); c.arc(xs[i], ys[i], radius + 6, 0, 7); c.stroke();
    c.fillStyle = P.colours[P.group[i]]; c.beginPath(); c.arc(xs[i], ys[i], radius + 1.5, 0, 7); c.fill();
  }
}
function figure(sheet, i, caption, label) {
  const c = el('canvas', {class: 'tile', role: 'img', 'aria-label': label});
  draw(c, sheet, i);
  return el('figure', {}, c, el('figcaption', {}, caption));
}
let card = -1;
function showCard(i) {
  if (i === card) return;
  card = i;
  const pics = $('card-pics'), facts = $('card-facts');
  pics.replaceChildren(); facts.replaceChildren();
  if (sheets.image) pics.append(figure('image', i, 'image', `image of ${P.name[i]}`));
  if (sheets.picture) pics.append(figure('picture', i, 'from z', `painted from z of ${P.name[i]}`));
  const fact = (k, v, cls) => facts.append(el('dt', {}, k), el('dd', {class: cls}, v));
  fact('Image', P.name[i]); fact('Target', P.target[i]);
  fact('The model says', P.said[i], P.wrong[i] ? 'bad' : null);
  if (P.wrong[i]) fact('', data.task === 'score' ? 'among the largest errors' : data.task === 'labels' ? 'a label is wrong' : 'wrong', 'bad');
  if (P.flag[i]) fact('Unusual', P.flag[i], 'bad');
  $('card-walk').hidden = !walkOf.has(i);
}
function select(i) { at = i; over = -1; showCard(i); paintMap(); }
function nearest(e, reach) {
  const box = map.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top;
  let best = -1, d = reach * reach;
  for (let i = 0; i < n; i++) if (shown[i]) { const q = (xs[i]-x)**2 + (ys[i]-y)**2; if (q < d) { d = q; best = i; } }
  return best;
}
map.addEventListener('pointermove', e => {
  if (e.pointerType === 'touch') return;
  const i = nearest(e, 16);
  if (i !== over) { over = i; showCard(i < 0 ? at : i); paintMap(); }
});
map.addEventListener('pointerleave', () => { if (over >= 0) { over = -1; showCard(at); paintMap(); } });
map.addEventListener('click', e => { const i = nearest(e, 28); if (i >= 0) select(i); });
map.addEventListener('dblclick', () => walkOf.has(at) && toWalk(walkOf.get(at)));
map.addEventListener('keydown', e => {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key];
  if (e.key === 'Enter' && walkOf.has(at)) { e.preventDefault(); return toWalk(walkOf.get(at)); }
  if (!step) return;
  e.preventDefault();
  let best = -1, least = Infinity;
  for (let i = 0; i < n; i++) if (shown[i] && i !== at) {
    const dx = xs[i]-xs[at], dy = ys[i]-ys[at], along = dx*step[0] + dy*step[1], off = Math.abs(dx*step[1]) + Math.abs(dy*step[0]);
    if (along > 0 && off <= 1.5*along && along + 1.5*off < least) { least = along + 1.5*off; best = i; }
  }
  if (best >= 0) select(best);
});
for (const id of ['map-group', 'map-which']) $(id).addEventListener('change', matching);
$('map-search').addEventListener('input', matching);
$('map-method').addEventListener('change', paintMap);
$('card-walk').addEventListener('click', () => toWalk(walkOf.get(card)));
P.groups.forEach((g, i) => $('legend').append(el('li', {}, el('svg', {'aria-hidden': 'true', viewBox: '0 0 13 13'}, el('circle', {cx: 6.5, cy: 6.5, r: 5.5, fill: P.colours[i]})), el('span', {}, g))));
if (P.wrong.some(Boolean)) $('legend').append(el('li', {}, el('svg', {'aria-hidden': 'true', viewBox: '0 0 13 13'}, el('circle', {cx: 6.5, cy: 6.5, r: 5, fill: 'none', stroke: 'currentColor', 'stroke-width': 1.6})), el('span', {}, data.task === 'score' ? 'large error' : 'read wrongly')));
if (P.flag.some(Boolean)) $('legend').append(el('li', {}, el('svg', {'aria-hidden': 'true', viewBox: '0 0 13 13'}, el('rect', {x: 1.5, y: 1.5, width: 10, height: 10, fill: 'none', stroke: 'currentColor', 'stroke-width': 1.4})), el('span', {}, 'unusual')));
new ResizeObserver(paintMap).observe(map);

// The walk
let walk = 0;
const within = `${+(100*data.within).toPrecision(3)} %`;
const slider = $('kappa'), num = (v, d = 2) => v === null ? '–' : v.toFixed(d).replace('-', '−');
function check(name, value, pass, about) {
  return el('div', {class: pass === null ? null : pass ? 'pass' : 'fail'}, el('dt', {}, el('span', {class: 'mark'}, pass === null ? 'not asked' : pass ? '✓ passes' : '! look twice'), name), el('dd', {}, el('b', {}, value), ' ', about));
}
function chart(w, k) {
  const all = [...w.asked, ...w.read], score = data.task === 'score', lo = score ? Math.min(...all) : 0, hi = score ? Math.max(...all) : 1, span = hi - lo || 1, last = K[K.length-1];
  const x = v => 40 + 270 * v / last, y = v => 104 - 92 * (v - lo) / span, line = (v, cls) => el('polyline', {class: cls, points: v.map((o, i) => `${x(K[i]).toFixed(1)},${y(o).toFixed(1)}`).join(' ')});
  const ticks = [lo, (lo+hi)/2, hi].flatMap(v => [el('line', {class: 'grid', x1: 40, x2: 310, y1: y(v), y2: y(v)}), el('text', {x: 34, y: y(v)+4, 'text-anchor': 'end'}, num(v, score ? 2 : 1))]);
  const kappas = [0, 1, 2, 3].filter(v => v <= last).map(v => el('text', {x: x(v), y: 120, 'text-anchor': 'middle'}, String(v)));
  const label = score ? 'Score' : `Probability of ${w.of}`;
  return el('figure', {}, el('svg', {viewBox: '0 0 318 124', role: 'img', 'aria-label': `${label} along the walk: asked and read`}, ...ticks, ...kappas, line(w.asked, 'asked'), line(w.read, 'read'), el('line', {class: 'cursor', x1: x(K[k]), x2: x(K[k]), y1: 8, y2: 104}), el('circle', {class: 'dot', cx: x(K[k]), cy: y(w.read[k]), r: 4})),
    el('figcaption', {}, `${label} over κ. Line: read in the picture. Dashes: asked for.`));
}
function showStep() {
  const w = W[walk], k = +slider.value, i = walk*K.length + k, pic = $('walk-picture'), diff = $('walk-diff') && $('walk-diff').checked, kappa = String(K[k]);
  $('kappa-out').textContent = kappa;
  slider.setAttribute('aria-valuetext', `kappa ${kappa}, read as ${w.reads[k]}`);
  if (pic) {
    diff ? draw(pic, 'walk', i, 'walk', walk*K.length) : draw(pic, 'walk', i);
    pic.setAttribute('aria-label', `${diff ? 'What has changed' : 'Painted from z'} at kappa ${kappa}, read as ${w.reads[k]}`);
    $('walk-caption').textContent = diff ? `What the picture at κ = ${kappa} has more (red) and less (blue) than at κ = 0` : `Painted from z at κ = ${kappa}`;
  }
  const what = data.task === 'category' ? w.reads[k] : data.task === 'labels' ? `${w.of} with probability ${w.reads[k]}` : `a score of ${w.reads[k]}`;
  $('walk-reads').replaceChildren(data.images === 'none' ? 'In the picture the model reads ' : 'The model reads ', el('b', {}, what), K[k] === 0 ? '' : `, on the walk to ${data.task === 'score' ? 'a ' + (w.asked[w.asked.length-1] > w.asked[0] ? 'higher' : 'lower') + ' score' : w.toward}`);
  const bars = w.bars.map(([name, v]) => {
    const fill = el('u'); fill.style.width = `${100*v[k]}%`;
    return el('div', {class: name === w.toward ? 'goal' : null}, el('span', {title: name}, name), el('i', {}, fill), el('b', {}, num(v[k])));
  });
  $('walk-bars').replaceChildren(...bars);
  $('walk-chart').replaceChildren(chart(w, k));
  const here = K[k] === 0, g = w.gain[k], c = w.closeness[k], r = w.realism[k];
  $('walk-checks').replaceChildren(
    here && w.same !== null ? check('Read like the image', w.same ? 'yes' : 'no', w.same, 'Does the model say of this picture what it says of the image?')
      : check(data.task === 'score' ? 'Changed by a step' : 'Read as asked', K[k] < 1 ? '–' : !w.needed ? 'it was before' : w.holds[k] ? 'yes' : 'no', K[k] < 1 || !w.needed ? null : w.holds[k], K[k] < 1 ? 'Asked for from κ = 1 on.' : data.task === 'score' ? 'Has the score changed by one standard deviation or more, the way it was asked to?' : 'Does the model take the picture for what it was painted to be?'),
    check('Gain', num(g), g === null ? null : g >= .5 && g <= 1.5, 'Reached over asked change; 1 is all of it.'),
    check('Closeness', num(c), here || c === null ? null : c < 1, 'Below 1 the walk is shorter than the way to the nearest real image of the other side.'),
    check('Realism', num(r), here || r === null ? null : r <= 1, data.task === 'category' ? `Up to 1 the picture lies where ${within} of real images of the other class lie.` : `Up to 1 the picture lies where ${within} of all real images lie.`),
    check('Usual image', w.flag ? 'no' : 'yes', !w.flag, w.flag ? `This image is ${w.flag}: its walk may mean nothing.` : 'It is like those that the model has learned.'));
}
function showWalk(i) {
  walk = (i + W.length) % W.length;
  const w = W[walk];
  $('walk-which').value = walk;
  if ($('walk-image')) { draw($('walk-image'), 'walk_image', walk); $('walk-image').setAttribute('aria-label', `image, ${P.target[w.at]}`); }
  if ($('gallery')) [...$('gallery').children].forEach((b, j) => b.setAttribute('aria-pressed', j === walk));
  showStep();
}
function toWalk(i) { showWalk(i); $('walk').scrollIntoView(); $('kappa').focus({preventScroll: true}); }
if (W.length) {
  W.forEach((w, i) => {
    const name = `${P.target[w.at]} → ${data.task === 'score' ? (w.asked[w.asked.length-1] > w.asked[0] ? 'more' : 'less') : w.toward} · ${P.name[w.at]}`;
    $('walk-which').append(el('option', {value: i}, name));
    if (!$('gallery')) return;
    const c = el('canvas', {class: 'tile', 'aria-hidden': 'true'}), b = el('button', {type: 'button', 'aria-label': name, title: name, 'aria-pressed': 'false'}, c);
    draw(c, sheets.image ? 'image' : 'picture', w.at);
    b.addEventListener('click', () => showWalk(i));
    $('gallery').append(b);
  });
  const last = K[K.length-1], names = {0: 'start', 1: data.task === 'score' ? 'one step' : 'boundary', 2: data.task === 'score' ? 'two steps' : 'as far beyond', 3: 'further'};
  for (const v of [0, 1, 2, 3].filter(v => v <= last)) { const s = el('span', {}, el('b', {}, String(v)), names[v]); s.style.left = `${100*v/last}%`; $('kappa-ticks').append(s); }
  slider.addEventListener('input', showStep);
  if ($('walk-diff')) $('walk-diff').addEventListener('change', showStep);
  $('walk-which').addEventListener('change', e => showWalk(+e.target.value));
  $('walk-prev').addEventListener('click', () => showWalk(walk - 1));
  $('walk-next').addEventListener('click', () => showWalk(walk + 1));
  showWalk(0);
}

// Contents: where the reader is
const links = new Map([...document.querySelectorAll('#toc a')].map(a => [a.hash.slice(1), a]));
const seen = new IntersectionObserver(es => es.forEach(e => { if (e.isIntersecting) links.forEach((a, id) => id === e.target.id ? a.setAttribute('aria-current', 'true') : a.removeAttribute('aria-current')); }), {rootMargin: '-20% 0px -70% 0px'});
document.querySelectorAll('section').forEach(s => seen.observe(s));
matching(); select(W.length ? W[0].at : 0); themed();
})();

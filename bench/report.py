"""Does the report work in a browser, from disk and without a network?

`python bench/report.py [--shots FOLDER]` (about 4 minutes on one core)

Reports on digits from files (with all images, with z-only pictures, with none) and on 2,000 crops of two colour
photos are opened in headless Chromium, and used with mouse, finger and keyboard. Needs `chromium` on the PATH.
"""

import argparse, base64, io, json, re, shutil, sys, tempfile, time, warnings

import PIL.Image, torch

warnings.filterwarnings('ignore')
from sklearn.datasets import load_sample_images
from xaaenet.all import *
from xaaenet.demo import *
from _chromium import Chromium
from _table import Table  # after fastai's names, of which one is the same

if not shutil.which('chromium') and not shutil.which('chromium-browser') and not shutil.which('google-chrome'):
    sys.exit('bench/report.py was skipped: no chromium is on the PATH.')
parser = argparse.ArgumentParser()
parser.add_argument('--shots', type=Path, help='folder for screenshots')
shots, table, tmp = parser.parse_args().shots, Table('report'), tempfile.TemporaryDirectory()
if shots:
    shots.mkdir(parents=True, exist_ok=True)
out, evil = Path(tmp.name), ('</script><b id=evil>', '"><img src=x onerror="window.pwned=1">')


def quiet(learn):
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn


def digits(seed=0):
    "A model of digits that lie in files, and files that it hasn't seen"
    for i, (im, label) in enumerate(demo_items()[0]):
        (out / 'ward-7b' / label).mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(im).save(out / 'ward-7b' / label / f'patient-{i:05}.png')
    items, _ = demo_items(out / 'ward-7b')
    train, valid, test = split_items(items)
    set_seed(seed, reproducible=True)
    learn = quiet(demo_learner(demo_dls(train, valid, PILImageBW), path=out))
    learn.fit_phases(1, 4, 3, lr=3e-3, save=False)
    return learn, test


def photos(n=2000, size=64):
    "A barely trained model of crops of two colour photos, whose class names are HTML, and `n` crops"
    rng, items = np.random.RandomState(0), []
    for i in range(n + 300):
        im = load_sample_images().images[i % 2] if i < 2 else items[i % 2][2]
        y, x = rng.randint(im.shape[0] - 160), rng.randint(im.shape[1] - 160)
        items.append((np.ascontiguousarray(im[y : y + 160, x : x + 160]), evil[i % 2], im))
    items = [o[:2] for o in items]
    set_seed(0, reproducible=True)
    learn = quiet(demo_learner(demo_dls(items[n : n + 240], items[n + 240 :], PILImage, size), path=out))
    learn.fit_phases(0, 1, 1, lr=3e-3, save=False)
    return learn, items[:n]


def data_of(path):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)[1]
    )


def tiles(sheet):
    "The pictures of a sheet, `[n, C, H, W]`"
    im = (
        torch.tensor(
            np.array(PIL.Image.open(io.BytesIO(base64.b64decode(sheet['uri'].split(',')[1]))).convert('RGB'))
        )
        .permute(2, 0, 1)
        .float()
        / 255
    )
    rows = im.shape[1] // sheet['ch']
    return torch.stack(
        [
            im[:, r * sheet['ch'] : r * sheet['ch'] + sheet['h'], c * sheet['cw'] : c * sheet['cw'] + sheet['w']]
            for r in range(rows)
            for c in range(sheet['cols'])
        ]
    )


learn, test = digits()
found = [o.judge(test) for o in (learn, digits(1)[0])]
files = {
    k: report(learn, out / f'{k}.html', test, pictures=k, verdicts=found[0], seeds=over_seeds(found))
    for k in ('all', 'z-only', 'none')
}
learn2, crops = photos()
start = time.time()
files['2,000 photos'] = report(learn2, out / 'photos.html', crops, n_walks=20, title=f'Photos {evil[0]}')

table.row('2,000 photos of 64 px, 20 walks: seconds to write', time.time() - start)
table.say('what the files hold')
for k, f in files.items():
    table.row(f'  {k}: MB', f.stat().st_size / 1e6, most=10)
secret = set().union(*({f.name, f.stem, str(f.parent)} for f, _ in test)) | {str(out), 'ward-7b'}
for k in ('z-only', 'none'):
    table.row(
        f'  {k}: file names and folders found, of {len(secret)}',
        sum(s in files[k].read_text() for s in secret),
        most=0,
    )
table.row('  all: file names found', sum(f.name in files['all'].read_text() for f, _ in test), least=len(test))
table.row(
    '  all, none: folders found',
    sum(str(out) in files[k].read_text() or 'ward-7b/' in files[k].read_text() for k in ('all', 'none')),
    most=0,
)
sheets = {k: data_of(f)['sheets'] for k, f in files.items()}
table.row(
    '  z-only: sheets of images',
    sum(k.startswith('image') or k == 'walk_image' for k in sheets['z-only']),
    most=0,
    note=', '.join(sheets['z-only']),
)
table.row(
    '  none: pictures of any kind',
    len(re.findall('data:image|UklGR|iVBORw0KGgo|/9j/4AAQ', files['none'].read_text())),
    most=0,
)
x = learn.images(test)
painted = tiles(sheets['z-only']['picture'])[: len(x)].mean(1, keepdim=True)
table.row(
    '  z-only: distance of its pictures to those painted from z',
    F.l1_loss(painted, learn.decode(learn.encode(x)[0])),
    most=0.02,
    note=f'to the images {F.l1_loss(painted, x):.3f}',
)

find_apart = """(() => { // the point that lies farthest from all others, and where it is on the screen
  const P = JSON.parse(document.getElementById('data').textContent).points;
  const [mx, my] = P.maps[document.getElementById('map-method').value];
  const map = document.getElementById('map');
  map.scrollIntoView({block: 'center', behavior: 'instant'});
  const b = map.getBoundingClientRect();
  const x = mx.map(v => 22 + v/1000*(b.width-44));
  const y = my.map(v => b.height-22 - v/1000*(b.height-44));
  let best = 1, far = -1;
  for (let i = 1; i < x.length; i++) {
    let d = 1e9;
    for (let j = 0; j < x.length; j++) if (j !== i) d = Math.min(d, (x[i]-x[j])**2 + (y[i]-y[j])**2);
    if (d > far) { far = d; best = i; }
  }
  return [b.left + x[best], b.top + y[best], P.name[best]];
})()"""
facts, text = (
    "document.getElementById('card-facts').textContent",
    lambda i: f"document.getElementById('{i}').textContent",
)
picture = "document.getElementById('walk-picture').toDataURL()"


def outside(c, f):
    return [u for u in c.requests if not u.startswith('data:') and u != f.as_uri()]


def use(c, k, f):
    "Everything that a reader does, with mouse and keyboard"
    table.say(f'{k}, in the browser at 1280 px')
    c.size(1280)
    c.open(f.as_uri())
    x, y, name = c.js(find_apart)
    c.wait(0.2)
    c.mouse(x, y)
    table.row('  hover shows the card of the point', name in c.js(facts), least=1)
    c.mouse(2, 2)
    c.js("document.getElementById('map').focus()")
    seen = []
    for key in ('ArrowRight', 'ArrowDown', 'ArrowLeft', 'ArrowUp'):
        was = c.js(facts)
        c.key(key)
        seen.append(c.js(facts) != was)
    table.row(
        '  arrow keys that move the selection, of 4',
        sum(seen),
        least=3,
        note='at an edge one of them has nowhere to go',
    )
    c.js(
        "(() => { const s = document.getElementById('map-which'); "
        "s.value = 'walk'; s.dispatchEvent(new Event('change')); })()"
    )
    c.wait(0.2)
    table.row('  the filter counts what it keeps', 'match' in c.js(text('map-count')), least=1)
    c.js("document.getElementById('map').focus()")
    c.key('Enter')
    c.wait(1)
    table.row('  Enter on a point opens its walk', c.js('document.activeElement.id') == 'kappa', least=1)
    c.js("document.getElementById('kappa').focus()")
    c.key('Home')
    was, reads, chart = (
        c.js(picture) if k != 'none' else '',
        c.js(text('walk-reads')),
        c.js("document.getElementById('walk-chart').innerHTML"),
    )
    for _ in range(8):
        c.key('ArrowRight')
    table.row('  the slider, by keyboard, is at κ', float(c.js(text('kappa-out'))), least=2, most=2)
    table.row(
        '  it changes the reading' + ('' if k == 'none' else ', the picture') + ' and the chart',
        c.js(text('walk-reads')) != reads
        and (k == 'none' or c.js(picture) != was)
        and c.js("document.getElementById('walk-chart').innerHTML") != chart,
        least=1,
    )
    if k != 'none':
        was = c.js(picture)
        c.js("document.getElementById('walk-diff').click()")
        c.wait(0.3)
        table.row('  the switch shows the difference', c.js(picture) != was, least=1)
        c.js("document.querySelectorAll('#gallery button')[3].click()")
        table.row(
            '  a click in the gallery chooses an image',
            int(c.js("document.getElementById('walk-which').value")),
            least=3,
            most=3,
        )
    was = c.js('getComputedStyle(document.body).backgroundColor')
    c.js("document.getElementById('theme').click()")
    c.wait(0.2)
    table.row('  the theme changes', c.js('getComputedStyle(document.body).backgroundColor') != was, least=1)
    table.row('  width beyond the window', c.js('document.documentElement.scrollWidth - innerWidth'), most=0)
    table.row('  requests beside the file itself', len(outside(c, f)), most=0, note=' '.join(outside(c, f))[:80])
    table.row('  errors and warnings of the console', len(c.errors), most=0, note=' '.join(c.errors)[:200])


def phone(c, k, f):
    table.say(f'{k}, in the browser at 390 px, with touch')
    c.size(390, 844, touch=True)
    c.open(f.as_uri())
    x, y, name = c.js(find_apart)
    c.wait(0.2)
    c.tap(x, y)
    table.row('  a tap shows the card of the point', name in c.js(facts), least=1)
    table.row('  width beyond the window', c.js('document.documentElement.scrollWidth - innerWidth'), most=0)
    small = c.js(
        "[...document.querySelectorAll('main button, main select, main input:not([type=checkbox])')]"
        ".filter(e => e.offsetParent && e.getBoundingClientRect().height < 40).length"
    )
    table.row('  controls lower than 40 px', small, most=0)
    table.row('  requests and errors', len(outside(c, f)) + len(c.errors), most=0)


contrast = """(() => { // least contrast of text and ground, by WCAG
  const ctx = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = v => {
    ctx.fillStyle = v;
    ctx.fillRect(0, 0, 1, 1);
    return [...ctx.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = o => (o /= 255) <= .03928 ? o/12.92 : ((o+.055)/1.055)**2.4;
  const lum = v => { const [r, g, b] = rgb(v).map(linear); return .2126*r + .7152*g + .0722*b; };
  const ground = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c;
    }
    return 'white';
  };
  const holdsText = e => [...e.childNodes].some(t => t.nodeType === 3 && t.data.trim());
  let least = 99, what = '';
  for (const e of document.querySelectorAll('body *')) {
    if (!e.checkVisibility() || !holdsText(e) || ['SCRIPT', 'STYLE'].includes(e.tagName)) continue;
    const s = getComputedStyle(e);
    const a = lum(e instanceof SVGElement ? s.fill : s.color), b = lum(ground(e));
    const r = (Math.max(a, b)+.05)/(Math.min(a, b)+.05);
    if (r < least) { least = r; what = e.tagName + '.' + e.getAttribute('class') + ' ' + e.textContent.slice(0, 30); }
  }
  return [least, what];
})()"""

with Chromium() as c:
    for k, f in files.items():
        use(c, k, f)
        phone(c, k, f)
    table.say('class names that are HTML, and the security policy')
    f = files['2,000 photos']
    c.size(1280)
    c.open(f.as_uri())
    table.row(
        '  elements made of them',
        c.js("document.querySelectorAll('#evil, img').length + (window.pwned ? 1 : 0)"),
        most=0,
    )
    table.row(
        '  they are shown as text',
        all(o in c.js("document.querySelector('main').textContent") for o in evil),
        least=1,
    )
    stopped = c.js("fetch('https://example.org/').then(() => 0).catch(() => 1)")
    append = "document.body.append(Object.assign(document.createElement('%s'), {%s: '%s'}))"
    c.js(append % ('img', 'src', 'https://example.org/x.png'))
    c.js(append % ('script', 'textContent', 'window.ran = 1'))
    c.wait(0.5)
    table.row(
        '  a fetch and a script from outside are stopped',
        stopped
        and not c.js('window.ran')
        and not any(
            e['method'] == 'Network.responseReceived' and 'example.org' in e['params']['response']['url']
            for e in c.events
        ),
        least=1,
    )
    for theme in ('light', 'dark'):
        c.media(prefers_color_scheme=theme)
        c.open(files['all'].as_uri())
        least, what = c.js(contrast)
        table.row(f'  least contrast of text, {theme}', least, least=4.5, note=what.replace('\n', ' '))
        for w in (1280, 390) if shots else ():
            for k, f in files.items():
                c.size(w, touch=w == 390)
                c.open(f.as_uri())
                c.js('scrollTo(0, 0)')
                c.wait(0.3)
                c.shot(shots / f'{k} {w} {theme} top.png')
                for s in c.js("[...document.querySelectorAll('section')].map(s => s.id)"):
                    c.shot(shots / f'{k} {w} {theme} {s}.png', f'#{s}')
        c.size(1280)
tmp.cleanup()
table.end()

"""Can a reviewer knock the verdicts over?

`python bench/faithfulness.py [noise|groups|scores|planted|weak|two|binary|random ...]` (about an hour on two cores)

Studies whose truth is known, many times over, with Clopper-Pearson intervals: latents of noise, images drawn by
code with planted causes and decoys, labels randomised, several images a patient, and the same without each of the
safeguards. tmw-xai stands beside where it is installed.
"""

import os, sys, time, warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

os.environ.setdefault('OMP_NUM_THREADS', '1')  # as many processes as cores instead
warnings.filterwarnings('ignore')
import torch
from scipy.stats import binomtest
from sklearn.cross_decomposition import PLSRegression

torch.set_num_threads(1)
from xaaenet.all import *
from xaaenet.model import to_8_bit
from _table import Table

try:
    from tell_me_why.visualization import compute_pls_feature_alignment, supervised_pls_latent
except ImportError:
    supervised_pls_latent = None

runs, size, shift = (
    100,
    32,
    1.5,
)  # seeds of each study with a model; pixels; distance of the classes in standard deviations of the cause

# --- images drawn by code
strip = slice(26, 32)  # rows that the encoder doesn't see
zones = dict(masked=(strip, slice(0, 16)), confounded=(strip, slice(16, 32)), visible=(slice(0, 10), slice(20, 32)))


class Mask(nn.Module):
    "Blacks out the rows of `strip`, so that nothing in them can reach a logit"

    def __init__(self):
        super().__init__()
        self.register_buffer('seen', torch.ones(size, 1))
        self.seen[strip] = 0

    def forward(self, x):
        return x * self.seen


def _register(name, zone):
    "A cue of one zone: its fine texture, with a knob that scales it"
    window = torch.zeros(size, size)
    window[zone] = 1

    def knob(x, a):
        return x + a * window * (x - F.avg_pool2d(F.pad(x, (1, 1, 1, 1), 'replicate'), 3, 1))

    cue(f'{name} texture', f'Mean absolute difference of neighbouring pixels in the {name} zone', knob)(
        lambda x: gray(x)[:, zone[0], zone[1]].diff(dim=2).abs().mean((1, 2))
    )


for n, zone in zones.items():
    _register(n, zone)


def standard(rng, y, *before, r=()):
    "Noise that has mean 0 and variance 1 in each class exactly, and correlation `r` with the columns `before`"
    e = rng.randn(len(y))
    for c in np.unique(y):
        on = y == c
        basis = np.stack([np.ones(on.sum()), *(b[on] for b in before)], 1)
        own = e[on] - basis @ np.linalg.lstsq(basis, e[on], rcond=None)[0]
        own /= own.std()
        e[on] = (
            sum((k * b[on] for k, b in zip(r, before)), np.zeros(on.sum())) + np.sqrt(1 - sum(k * k for k in r)) * own
        )
    return e


class Scenes:
    "Images from parameters in standard deviations; the same noise whenever they are drawn again"

    def __init__(self, n, seed):
        rng = np.random.RandomState(seed)
        blobs = F.interpolate(
            torch.tensor(rng.randn(n, 1, 4, 4), dtype=torch.float32), (size, size), mode='bicubic', align_corners=True
        )
        self.scene = torch.ones(
            size, size, dtype=torch.bool
        )  # the zones of the decoys hold nothing but their texture
        for zone in zones.values():
            self.scene[zone] = False
        seen = blobs[:, :, self.scene]
        self.blobs = (blobs - seen.mean(2)[..., None, None]) / seen.std(2)[..., None, None]
        self.fine, self.grain = (torch.tensor(rng.randn(n, 1, size, size), dtype=torch.float32) for _ in range(2))
        for zone in zones.values():
            self.fine[:, :, *zone] /= self.fine[:, :, *zone].diff(dim=3).abs().mean((2, 3), keepdim=True)
        self.ramp = torch.linspace(-1, 1, size).expand(n, 1, size, size)

    def draw(self, p):
        "Images `[n, 1, size, size]` of 8 bits; `p` holds brightness, contrast, tilt and the texture of each zone"
        v = {k: torch.as_tensor(o, dtype=torch.float32).view(-1, 1, 1, 1) for k, o in p.items()}

        def of(k, mean, sd):
            return mean + sd * v.get(k, 0.0)

        x = of('contrast', 0.1, 0.015) * self.blobs + 0.08 * v.get('tilt', 0.0) * self.ramp
        x = x * self.scene + 0.5 + of('brightness', 0, 0.04) + 0.005 * self.grain
        for n, zone in zones.items():
            x[:, :, *zone] += (of(n, 0.04, 0.008) * self.fine)[:, :, *zone]
        return to_8_bit(x.clamp(0, 1))


def follow(rng, y, **kw):
    return shift * (y - 0.5) + standard(rng, y, **kw)


def main_parameters(rng, y, cause, test):
    """A cause, and decoys that follow the label just as much.

    (a) is masked, (b) is visible but only in the test rows, (c) is masked and correlated with the cause within
    the class."""
    e = standard(rng, y)
    base, p = shift * (y - 0.5), {}
    p[cause] = base + e
    p['masked'] = base + standard(rng, y, e, r=(0,))
    p['confounded'] = base + standard(rng, y, e, r=(0.3,))
    p['visible'] = base + standard(rng, y, e, r=(0,)) if test else rng.randn(len(y)) * np.sqrt(1 + shift**2 / 4)
    p['brightness' if cause == 'contrast' else 'contrast'] = rng.randn(len(y))
    return p


# --- models
def conv(i, o, s=1):
    return ConvLayer(i, o, stride=s)


def encoder():
    return nn.Sequential(Mask(), conv(1, 4, 2), conv(4, 8, 2), conv(8, 16, 2))


def train(x, y, n_valid, seed, epochs, bs):
    """A model of two classes, without the consistency term, which is about pictures.

    The last `n_valid` rows choose its weights."""
    items = list(zip((x[:, 0] * 255).round().byte().numpy(), np.where(y == 1, 'high', 'low')))
    set_seed(seed, reproducible=True)
    dls = DataBlock(
        (ImageBlock(PILImageBW), CategoryBlock(vocab=['low', 'high'], sort=False)),
        getters=[ItemGetter(0), ItemGetter(1)],
        splitter=IndexSplitter(range(len(y) - n_valid, len(y))),
    ).dataloaders(items, bs=bs, num_workers=0)
    learn = aae_learner(dls, encoder(), encoding_dims=16, cons_weight=0)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    learn.fit_phases(0, 0, epochs, lr=3e-3, save=False)
    return learn


def read(learn, x, y):
    z, logits = learn.encode(x)
    return Latents(z, logits, torch.as_tensor(y), list(range(len(y))), ['low', 'high'])


def diff(logits):
    return (logits[:, 1] - logits[:, 0]).double().numpy()


def within(v, y):
    return np.sqrt(np.concatenate([(v[y == c] - v[y == c].mean()) ** 2 for c in np.unique(y)]).mean())


def truth(learn, scenes, p, y, name):
    "The effect of a parameter: the same scenes drawn again with it half a standard deviation up and down"
    sd = within(p[name], y)
    f = [diff(learn.encode(scenes.draw({**p, name: p[name] + s * sd / 2}))[1]) for s in (1, -1)]
    return (f[0] - f[1]).mean() / within(diff(learn.encode(scenes.draw(p))[1]), y)


def study(seed, parameters, n_train=1000, n_test=500, epochs=6, bs=64):
    "A trained model with its test scenes"
    rng = np.random.RandomState(1000 + seed)
    parts = []
    for i, n in enumerate((n_train + 200, n_test)):
        y, p = parameters(rng, n, i == 1)
        s = Scenes(n, 10 * seed + i)
        parts.append((s, p, y, s.draw(p)))
    (_, _, y, x), test = parts[0], parts[1]
    return train(x, y, 200, seed, epochs, bs), *test, (x, y)


def balanced(rng, n):
    return rng.permutation(np.arange(n) % 2)


def run_planted(seed):
    "One seed: effects, truths and verdicts of cause and decoys"
    cause = ('brightness', 'contrast')[seed % 2]

    def parameters(rng, n, test):
        y = balanced(rng, n)
        return y, main_parameters(rng, y, cause, test)

    learn, scenes, p, y, x, _ = study(seed, parameters)
    lat, names = read(learn, x, y), [cause, 'masked texture', 'visible texture', 'confounded texture']
    v = learn.judge(x, lat, names, curve=0)
    t, true = v.table.set_index('cue'), {n: truth(learn, scenes, p, y, n.split()[0]) for n in names}
    raw = {n: np.corrcoef(v.cue_values[n], y)[0, 1] for n in names}
    moved = {
        n: (learn.encode(scenes.draw({**p, n: p[n] + 1}))[1] == lat.logits).all().item()
        for n in ('masked', 'confounded')
    }
    res = dict(
        cause=cause,
        skill=v.skill.passed,
        accuracy=lat.correct.float().mean().item(),
        coverage=v.coverage['high'],
        identical=all(moved.values()),
        gap=max(abs(raw[n] - raw[cause]) for n in names),
        true=true,
        effect=t.effect.to_dict(),
        low=t.low.to_dict(),
        high=t.high.to_dict(),
        verdict=t.verdict.to_dict(),
        associated=t.associated.to_dict(),
        r=t.r.to_dict(),
        flagged=t.flagged.to_dict(),
    )
    if supervised_pls_latent:
        scores, *_ = supervised_pls_latent(lat.z.numpy(), y)
        a = compute_pls_feature_alignment(
            scores[:, 0],
            scores[:, 1],
            ((v.cue_values - v.cue_values.mean()) / v.cue_values.std())[names].values,
            names,
        )
        res['tmw'] = {n: a[n]['p_value'] < 0.001 for n in names}
    return res


def run_weak(seed):
    "A strong cause (tilt) and a weak one (brightness)"

    def parameters(rng, n, test):
        p = dict(tilt=rng.randn(n), brightness=rng.randn(n))
        return (rng.rand(n) < 1 / (1 + np.exp(-(2.5 * p['tilt'] + 0.75 * p['brightness'])))).astype(int), p

    learn, scenes, p, y, x, _ = study(seed, parameters)
    o = learn.judge(x, read(learn, x, y), ['brightness'], curve=0).table.iloc[0]
    return dict(
        true=truth(learn, scenes, p, y, 'brightness'),
        effect=o.effect,
        used=o.verdict.startswith('used'),
        verdict=o.verdict,
        why=o.why,
    )


def run_two(seed):
    "Two causes, and a label that is the sign of their sum"

    def parameters(rng, n, test):
        p = dict(brightness=rng.randn(n), contrast=rng.randn(n))
        return (p['brightness'] + p['contrast'] > 0).astype(int), p

    learn, scenes, p, y, x, _ = study(seed, parameters)
    t = learn.judge(x, read(learn, x, y), list(p), curve=0).table.set_index('cue')
    return dict(
        used=all(v.startswith('used') for v in t.verdict),
        right=bool((t.low > 0).all()),
        associated_wrong=bool((t.associated & (t.r < 0)).any()),
        effect=t.effect.to_dict(),
        true={n: truth(learn, scenes, p, y, n) for n in p},
    )


def run_binary(seed):
    "A cause that takes two values, but for a tenth"

    def parameters(rng, n, test):
        high = rng.rand(n) < 0.5
        y = np.where(rng.rand(n) < 0.85, high, ~high).astype(int)
        return y, dict(brightness=np.where(high, 1.0, -1.0) + 0.1 * rng.randn(n), contrast=rng.randn(n))

    learn, scenes, p, y, x, _ = study(seed, parameters)
    t = learn.judge(x, read(learn, x, y), ['brightness', 'contrast'], curve=0).table.set_index('cue')
    return dict(
        used=t.verdict['brightness'].startswith('used') and t.low['brightness'] > 0,
        why=t.why['brightness'],
        images=t.images['brightness'],
        other=t.verdict['contrast'].startswith('used'),
        other_true=abs(truth(learn, scenes, p, y, 'contrast')),
    )


def run_random(seed):
    "Labels randomised: is there a verdict?"

    def parameters(rng, n, test):
        return balanced(rng, n), dict(brightness=rng.randn(n), contrast=rng.randn(n))

    learn, scenes, p, y, x, (xt, yt) = study(seed, parameters, n_train=150, epochs=15, bs=32)
    lat, seen = read(learn, x, y), read(learn, xt, yt)
    open_ = learn.judge(x, lat, list(p), curve=0, max_p=1).table
    return dict(
        refused=not lat.skill().passed,
        refused_in_sample=not seen.skill().passed,
        used=bool(open_.verdict.str.startswith('used').any()),
        associated=bool(open_.associated.any()),
    )


# --- no model at all
def run_noise(job):
    "Latents of noise, an axis that PLS fits to the label, and a cue that follows the label"
    n, seed = job
    rng = np.random.RandomState(seed)
    y = balanced(rng, n)
    z, c = rng.randn(n, 128), 2.0 * y + rng.randn(n)
    axis = (z - z.mean(0)) @ PLSRegression(1).fit(z, y).x_rotations_[:, 0]
    axis *= np.sign(axis[y == 1].mean() - axis[y == 0].mean())
    lat = Latents(
        torch.tensor(z),
        torch.tensor(np.stack([-axis / 2, axis / 2], 1)),
        torch.tensor(y),
        list(range(n)),
        ['low', 'high'],
    )
    one = replace(lat, targets=torch.zeros(n, dtype=torch.long))  # all rows in one stratum: no conditioning
    table = pd.DataFrame(dict(c=c))
    res = dict(
        ours=bool(lat.associated(table, n_perm=999, n_boot=1).associated[0]),
        unconditioned=bool(one.associated(table, n_perm=99, n_boot=1, fdr=0.05).associated[0]),
    )
    if supervised_pls_latent:
        scores, *_ = supervised_pls_latent(z, y)
        a = compute_pls_feature_alignment(scores[:, 0], scores[:, 1], ((c - c.mean()) / c.std())[:, None], ['c'])['c']
        res |= dict(tmw=bool(a['p_value'] < 0.05), tmw3=bool(a['p_value'] < 0.001))
    return res


def run_groups(seed, n=20, each=10):
    """Ten images a patient; cue and logit are the patient's, and have nothing to do with one another.

    The label is the patient's, or each image's own, or a score."""
    rng, g, res = np.random.RandomState(seed), np.repeat(np.arange(n), each), {}
    for kind, y in (
        ('label of the patient', balanced(rng, n)[g]),
        ('label of the image', balanced(rng, n * each)),
        ('score', rng.randn(n * each).astype(np.float32)),
    ):
        c, l = rng.randn(n)[g] + 0.3 * rng.randn(n * each), torch.tensor(rng.randn(n)[g] + 0.3 * rng.randn(n * each))
        lat = Latents(
            torch.zeros(n * each, 1),
            l[:, None] if kind == 'score' else torch.stack([-l / 2, l / 2], 1),
            torch.tensor(y),
            list(g),
            ['score'] if kind == 'score' else ['low', 'high'],
            'score' if kind == 'score' else 'category',
        )
        res[kind] = {
            k: bool(lat.associated(pd.DataFrame(dict(c=c)), o, n_perm=499, n_boot=1).associated[0])
            for k, o in (('whole', g), ('rows', None))
        }
    return res


def run_scores(seed, n=300):
    "A score of several distributions; cue and logit follow it, each in its own way, and one another in nothing else"
    rng, res = np.random.RandomState(seed), {}
    for kind, y, f in (
        ('uniform', rng.rand(n), np.sin),
        ('normal, tanh', rng.randn(n), np.tanh),
        ('lognormal, log', np.exp(rng.randn(n)), np.log),
        ('five grades', rng.randint(5, size=n), np.square),
    ):
        l = torch.tensor(f(y) + 0.3 * f(y).std() * rng.randn(n))[:, None]
        lat = Latents(torch.zeros(n, 1), l, torch.tensor(y, dtype=torch.float32), list(range(n)), ['score'], 'score')
        res[kind] = bool(
            lat.associated(
                pd.DataFrame(dict(c=f(y) + 0.3 * f(y).std() * rng.randn(n))), n_perm=499, n_boot=1
            ).associated[0]
        )
    return res


# --- the table
def rate(table, name, hits, least=None, most=None, note=''):
    "Share of `hits` with its Clopper-Pearson interval"
    hits = [bool(h) for h in hits]
    if not hits:
        table.row(name, math.nan, least, most, 'no run')
        return
    ci = binomtest(sum(hits), len(hits)).proportion_ci(method='exact')
    table.row(
        name,
        sum(hits) / len(hits),
        least,
        most,
        f'{sum(hits)} of {len(hits)}, 95 % {ci.low:.3f}–{ci.high:.3f}' + (f'; {note}' if note else ''),
    )


def fails(table, line, name, hits, least=None, most=None):
    "An ablation: the line's bound has to be missed without the safeguard"
    if not len(hits):
        table.say(f'{name}: no run for the line {line}')
        return
    share = np.mean(hits)
    ci = binomtest(int(sum(hits)), len(hits)).proportion_ci(method='exact')
    met = (least is not None and share < least) or (most is not None and share > most)
    table.missed += not met
    bound = f'{"≥" if least else "≤"} {least or most:<8g}'
    word = 'fails' if met else 'HOLDS'
    table.say(f'{name:58} {share:9.4g}  {bound}  {word}  line: {line}; 95 % {ci.low:.3f}–{ci.high:.3f}')


def starts(v):
    return isinstance(v, str) and v.startswith('used')


def report_planted(table, rs):
    d = {'masked': 'masked texture', 'visible': 'visible texture', 'confounded': 'confounded texture'}
    say = lambda f: [f(r) for r in rs]
    accuracy = np.mean(say(lambda r: r['accuracy']))
    coverage = 100 * np.mean(say(lambda r: r['coverage']))
    table.say(f'accuracy {accuracy:.3f}, cues account for {coverage:.0f} % of the logit within the label')
    rate(table, 'skill gate lets through', say(lambda r: r['skill']))
    table.row("largest gap of a decoy's correlation with the label", max(say(lambda r: r['gap'])), most=0.05)
    rate(table, 'logits bit-identical when masked decoys change', say(lambda r: r['identical']), least=1)
    rate(
        table,
        'the cause ranks first by effect',
        say(lambda r: max(r['effect'], key=lambda k: abs(r['effect'][k])) == r['cause']),
        least=0.95,
    )
    rate(table, 'the cause is used', say(lambda r: starts(r['verdict'][r['cause']])))
    rate(
        table,
        'its direction is right',
        say(lambda r: np.sign(r['effect'][r['cause']]) == np.sign(r['true'][r['cause']])),
        least=1,
    )
    for c in ('brightness', 'contrast'):
        e = [r['effect'][c] / r['true'][c] for r in rs if r['cause'] == c]
        if e:
            rate(
                table,
                f'effect within 20 % of the truth: {c}',
                [0.8 <= o <= 1.2 for o in e],
                least=0.95,
                note=f'ratio {np.median(e):.3f}, from {min(e):.3f} to {max(e):.3f}',
            )
    still = [r for r in rs if abs(r['true'][d['visible']]) < 0.05]
    for k, rows in (('masked', rs), ('visible', still), ('confounded', rs)):
        rate(
            table,
            f'decoy ({dict(masked="a", visible="b", confounded="c")[k]}, {k}) is used',
            [starts(r['verdict'][d[k]]) for r in rows],
            most=0.05,
            note=f'{len(rs)-len(rows)} seeds excluded, true effect 0.05 or more' if k == 'visible' else '',
        )
    rate(
        table,
        'decoy (c) shows as associated but not used',
        say(lambda r: r['associated'][d['confounded']] and not starts(r['verdict'][d['confounded']])),
        least=0.95,
    )
    for k in d:
        rate(table, f'  associated: decoy {k}', say(lambda r: r['associated'][d[k]]))
    if 'tmw' in rs[0]:
        for k in (None, *d):
            rate(table, f'  tmw-xai, p < 0.001: {k or "the cause"}', say(lambda r: r['tmw'][d.get(k, r['cause'])]))
    fails(
        table,
        'decoy (c) is used',
        'without intervention (associated counts as used)',
        say(lambda r: r['associated'][d['confounded']]),
        most=0.05,
    )
    fails(
        table,
        'decoy (b) is used',
        'without margin (interval beyond 0)',
        [r['low'][d['visible']] > 0 or r['high'][d['visible']] < 0 for r in still],
        most=0.05,
    )


def report_noise(table, rs):
    for n in (80, 200, 500, 1500):
        of = [r for r, j in zip(rs, noise_jobs) if j[0] == n]
        rate(table, f'noise latents, n={n}: reported', [r['ours'] for r in of], most=0.07)
        if 'tmw' in of[0]:
            rate(table, f'  tmw-xai, p < 0.05', [r['tmw'] for r in of])
            rate(table, f'  tmw-xai, p < 0.001', [r['tmw3'] for r in of])
        fails(
            table, f'noise latents, n={n}', 'without label conditioning', [r['unconditioned'] for r in of], most=0.07
        )


def report_groups(table, rs):
    for k in rs[0]:
        rate(table, f'ten images a patient, {k}: reported', [r[k]['whole'] for r in rs], most=0.07)
        fails(
            table,
            f'ten images a patient, {k}',
            'without whole-group permutation',
            [r[k]['rows'] for r in rs],
            most=0.07,
        )


def report_scores(table, rs):
    for k in rs[0]:
        rate(table, f'a cue that follows the score, {k}: reported', [r[k] for r in rs], most=0.07)


def report_weak(table, rs):
    near = [r for r in rs if 0.2 <= r['true'] <= 0.3]
    true = [r['true'] for r in rs]
    table.say(
        f'weak cause: true effect {np.mean(true):.3f} logit-SD on average, from {min(true):.3f} to {max(true):.3f}; '
        f'{len(rs)-len(near)} seeds outside 0.2 to 0.3 excluded below'
    )
    rate(table, 'a weak cause (0.25 logit-SD) is used, n=500', [r['used'] for r in near], least=0.8)
    rate(table, '  all seeds', [r['used'] for r in rs])


def report_two(table, rs):
    rate(table, 'two causes: both used, both directions right', [r['used'] and r['right'] for r in rs], least=0.95)
    rate(table, '  a direction by association is wrong', [r['associated_wrong'] for r in rs])


def report_binary(table, rs):
    there = [r['other_true'] for r in rs if r['other']]
    elsewhere = [r['other_true'] for r in rs if not r['other']]
    rate(
        table,
        'a nearly binary cause is used, in its direction',
        [r['used'] for r in rs],
        least=0.95,
        note=f'{np.mean([r["images"] for r in rs]):.0f} of 500 images edited',
    )
    rate(
        table,
        '  contrast, which has nothing to do with the label, is used',
        [r['other'] for r in rs],
        note=f'true effect there {np.mean(there or [0]):.2f}, elsewhere {np.mean(elsewhere or [0]):.2f}',
    )


def report_random(table, rs):
    rate(table, 'labels randomised: the gate refuses', [r['refused'] for r in rs], least=0.95)
    rate(table, '  gate off: something is used', [r['used'] for r in rs])
    rate(table, '  gate off: something is associated', [r['associated'] for r in rs])
    fails(
        table,
        'labels randomised',
        'without held-out skill (in-sample instead)',
        [r['refused_in_sample'] for r in rs],
        least=0.95,
    )


noise_jobs = [(n, s) for n in (80, 200, 500, 1500) for s in range(1000)]
studies = dict(
    noise=(run_noise, noise_jobs, report_noise),
    groups=(run_groups, range(1000), report_groups),
    scores=(run_scores, range(1000), report_scores),
    planted=(run_planted, range(runs), report_planted),
    weak=(run_weak, range(runs), report_weak),
    two=(run_two, range(runs), report_two),
    binary=(run_binary, range(runs), report_binary),
    random=(run_random, range(runs), report_random),
)

if __name__ == '__main__':
    chosen = sys.argv[1:] or list(studies)
    table = Table('faithfulness' if len(chosen) == len(studies) else 'faithfulness-' + '-'.join(chosen))
    table.say(
        f'{os.cpu_count()} processes of one thread; tmw-xai is {"" if supervised_pls_latent else "not "}installed'
    )
    with ProcessPoolExecutor(os.cpu_count(), get_context('fork')) as pool:
        for name in chosen:
            run, jobs, tell = studies[name]
            start = time.time()
            rs = list(pool.map(run, jobs, chunksize=1 if len(jobs) <= runs else 20))
            table.say(f'--- {name}: {run.__doc__} ({len(jobs)} runs, {time.time()-start:.0f} s)')
            tell(table, rs)
    table.end()

"""Do the pictures hold what the model decides by?

`python bench/evidence.py [SEEDS] [SPOILED]` (five seeds and four spoiled models of each kind a seed by default; about
an hour a seed on one core. What is measured is kept: a run that was stopped goes on where it was, and
`python bench/evidence.py kept` shows what is there)

The cohort of `bench/cohort.py` (64 px; real CT, MR and CR patches where `pydicom` and `pydicom-data` are installed):
640 images of 160 patients to learn from, 240 of 60 patients of another site to measure on. Thin encoder of width 8, all
else at the library's defaults. No image is left out but those that the model calls healthy: a walk away from a lesion
needs one. All of them walk at κ=2, no strength is searched for. The judge is another network, trained on real images
alone. Severity: images with a lesion, whose radius is the target; walks ask for up to 2.5 pixels more or less, half of
the mean radius, and the painted lesion is measured.
"""

import gzip, resource, sys, time, warnings
from pathlib import Path
from statistics import mean

import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from captum.attr import LayerGradCam
from scipy.ndimage import binary_dilation, label
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

warnings.filterwarnings('ignore')
from fastai.vision.all import noop
from cohort import cohort, lesion_contrast, radii
from start import fashion
from xaaenet.all import *
from xaaenet.demo import demo_dls
from xaaenet.test_utils import thin_encoder
from _kept import Kept
from _table import Table  # after fastai's names, of which one is the same

names = 'healthy', 'lesion'
kinds = 'z', 'image'


def pairs(images, classes):
    "(array, name) of images `[n, H, W]` in [0, 1]"
    return [((a * 255).round().astype('uint8'), c) for a, c in zip(images, classes, strict=True)]


def new_learner(c, seed, **kwargs):
    "An untrained learner of a cohort, of which every tenth patient of either kind chooses the epoch"
    held = c.patient // 2 % 10 == 0  # every second patient has a lesion
    classes = np.array(names)[c.lesion.astype(int)]
    dls = demo_dls(pairs(c.images[~held], classes[~held]), pairs(c.images[held], classes[held]), size=64, bs=32)
    learn = aae_learner(dls, thin_encoder(1, 8), pretrained=False, seed=seed, **kwargs)
    learn.logger = noop
    return learn


def trained(c, seed, **kwargs):
    learn = new_learner(c, seed, **kwargs)
    with learn.no_bar():
        learn.fit_phases(save=False, seed=seed)
    return learn


# Readers


class Judge(nn.Module):
    "A plain network of another shape, trained on real images alone"

    def __init__(self, n_out=2, width=16):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(4, o), nn.GELU(), nn.MaxPool2d(2))

        self.body = nn.Sequential(block(1, width), block(width, 2 * width), block(2 * width, 4 * width))
        self.head = nn.Linear(4 * width, n_out)

    def forward(self, x):
        return self.head(self.body((x - 0.5) / 0.25).amax((2, 3)))

    @torch.no_grad()
    def value(self, x):
        self.eval()
        lo = torch.cat([self(o) for o in x.split(128)])
        return lo[:, 1] - lo[:, 0]


def judge(x, y, seed, steps=600):
    "Train a judge with shifts, brightness and noise"
    torch.manual_seed(1000 + seed)
    net = Judge()
    opt = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,))
        one = x[rows].roll(torch.randint(-4, 5, (2,)).tolist(), (2, 3))
        one = one * (0.9 + 0.2 * torch.rand(64, 1, 1, 1)) + 0.1 * torch.rand(64, 1, 1, 1) * torch.randn_like(one)
        loss = F.cross_entropy(net(one.clamp(0, 1)), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        schedule.step()
    return net


def value(learn, x):
    "Logit of a lesion minus that of none"
    logits = learn.encode(x)[1]
    return logits[:, 1] - logits[:, 0]


def disturbed(p):
    "Moved by a pixel, darker, noisy: ways that training doesn't use"
    moved = p.roll((1, -1), (2, 3)).clamp_min(1e-4) ** 1.15
    return (moved + 0.03 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


# Maps


def located(maps, c):
    "Median energy in the lesion over chance, and how often the highest point is within 3 px of it"
    energy, hit = [], []
    for a, m in zip(np.abs(maps), c.mask):
        energy.append((a[m] ** 2).sum() / max((a**2).sum(), 1e-12) / m.mean())
        hit.append(binary_dilation(m, iterations=3).flat[a.argmax()])
    return np.median(energy), np.mean(hit)


def gradcam(learn, x):
    "GradCAM at the encoder's last block but one, where its map still has 8×8 cells"
    model = learn.aae
    layers = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    shapes, hooks = {}, []
    for m in layers:
        hooks.append(m.register_forward_hook(lambda m, i, o: shapes.__setitem__(m, o.shape[-1])))
    with torch.no_grad():
        model.eval().logits(x[:2])
    for h in hooks:
        h.remove()
    layer = [m for m in layers if shapes[m] >= 8][-1]
    cam = LayerGradCam(lambda o: model.logits(o)[:, 1] - model.logits(o)[:, 0], layer).attribute(x)
    return F.interpolate(cam.relu().detach(), x.shape[-2:], mode='bilinear')[:, 0].numpy()


def contrast(p, c):
    "Lesion's contrast in pictures, over that in the images"

    def of(q):
        return np.nanmean(lesion_contrast(q, c.mask, c.lungs))

    plain = of(c.clean)
    return (of(p[:, 0].numpy()) - plain) / (of(c.images) - plain)


def high(p):
    "Power at the highest spatial frequencies"
    power = torch.fft.fft2(p).abs().pow(2).mean((0, 1))
    f = torch.fft.fftfreq(p.shape[-1]).abs()
    return power[torch.maximum(f[:, None], f[None]) > 0.4].mean().item()


def one_blob(change, lungs):
    "Is what was added one blob in a lung field, of a size that lesions have?"
    found = change > 0.5 * change.max()
    blobs, n = label(found)
    sizes = np.bincount(blobs.flat)[1:]
    main = blobs == 1 + sizes.argmax()
    radius = np.sqrt(main.sum() / np.pi)
    alone = sizes.sum() - sizes.max() <= 0.1 * sizes.max()
    return alone and (main & lungs).sum() > 0.5 * main.sum() and 0.7 * radii[0] <= radius <= 1.1 * radii[1]


# One seed


def measure(seed):
    "All figures of one seed, by name"
    c, t = cohort(160, seed=seed), cohort(60, seed=100 + seed, sites=(2,))
    x, y = torch.as_tensor(c.images)[:, None], torch.as_tensor(c.lesion).long()
    start = time.perf_counter()
    learn = trained(c, seed)
    res = {'seconds of training': time.perf_counter() - start}
    xt = torch.as_tensor(t.images)[:, None]
    said, net = value(learn, xt).numpy(), judge(x, y, seed)
    res |= {'accuracy': ((said > 0) == t.lesion).mean(), 'AUC': roc_auc_score(t.lesion, said)}
    res['judge: accuracy'] = ((net.value(xt).numpy() > 0) == t.lesion).mean()
    rows = np.flatnonzero(t.lesion & (said > 0))
    res |= removal(learn, net, xt[rows], t[rows]) | addition(learn, xt, t, said)
    return learn, res


def removal(learn, net, x, c):
    "Walks from a lesion"
    res = {'lesions called': len(x)}
    where = learn.where(x)
    maps = dict(occlusion=where.occlusion.clamp_min(0).numpy(), gradients=where.gradients.numpy())
    best = {}
    for name, m in (maps | {'GradCAM': gradcam(learn, x)}).items():
        best[name], res[f'{name}: point'] = located(m, c)
        res[f'{name}: energy'] = best[name]
    plain = learn.decode(learn.encode(x)[0])
    res |= {'picture: L1': (plain - x).abs().mean().item(), 'picture: contrast': contrast(plain, c)}
    res['picture: highest frequencies'] = high(plain) / high(x)
    kept = learn.evidence_kept(x, where=where)
    res['evidence kept'] = np.nanmedian(kept.kept.numpy())
    for kind in kinds:
        cf = learn.counterfactuals(x, kappas=(0, 2), kind=kind)
        walked = cf.pictures[:, 1]
        base = plain if kind == 'z' else x
        energy, res[f'{kind}: point'] = located((walked - base)[:, 0].numpy(), c)
        res |= {f'{kind}: energy': energy, f'{kind}: energy over the best map': energy / max(best.values())}
        res[f'{kind}: contrast left'] = contrast(walked, c)
        for name, read in (('model', lambda o: value(learn, o)), ('judge', net.value)):
            needed = read(base) > 0
            for how, p in (('', walked), (', disturbed', disturbed(walked))):
                res[f'{kind}: {name} reads as healthy{how}'] = (read(p)[needed] < 0).float().mean().item()
    return res


def addition(learn, x, c, said, n=60):
    "Walks from healthy images"
    rows = np.flatnonzero(~c.lesion & (said < 0))[:n]
    cf = learn.counterfactuals(x[rows], kappas=(0, 2))
    change = (cf.pictures[:, 1] - cf.pictures[:, 0])[:, 0].numpy()
    return {'added: one blob in a lung': np.mean([one_blob(a, m) for a, m in zip(change, c.lungs[rows])])}


# Models that are spoiled on purpose


kinds_of_spoiled = 'dead decoder', 'no lesion in the picture', 'code instead of the lesion', 'too few steps'


def spoiled(learn, kind, seed):
    "A copy of `learn` whose pictures don't hold the evidence"
    torch.manual_seed(seed)
    bad = learn.aae.__class__(64, 1, classes=2, arch=thin_encoder(1, 8), pretrained=False)
    mine = {k: v.clone() for k, v in learn.aae.state_dict().items()}
    if kind in ('dead decoder', 'too few steps'):
        fresh = bad.state_dict()
        mine |= {k: v for k, v in fresh.items() if k.startswith(('projection', 'decoder'))}
    bad.load_state_dict(mine)
    c = cohort(40, seed=300 + seed)
    x, clean = (torch.as_tensor(o)[:, None] for o in (c.images, c.clean))
    if kind == 'no lesion in the picture':
        _train_decoder(bad, x, clean)
    if kind == 'code instead of the lesion':
        _train_decoder(bad, x, clean, code=1.0)
    if kind == 'too few steps':
        _train_decoder(bad, x, x, steps=20)
    return bad


def _train_decoder(model, x, target, steps=60, code=0.0):
    "Train the decoder to paint `target`, and, at the weight `code`, to be read as the vector that it was given"
    params = [*model.projection.parameters(), *model.decoder.parameters()]
    opt = torch.optim.AdamW(params, 1e-3)
    model.eval()
    for _ in range(steps):
        rows = torch.randint(len(x), (32,))
        with torch.no_grad():
            model.z = model.encode(x[rows])
        loss = reconstruction_loss(model.decode(model.z), target[rows])
        if code:
            loss = loss + code * model.cons_loss_func()
        opt.zero_grad()
        loss.backward()
        opt.step()


def gates(learn, seed, n):
    "Evidence kept by spoiled models, and how many of them the gate lets through"
    t = cohort(30, seed=400 + seed)
    x = torch.as_tensor(t.images)[:, None]
    x = x[torch.as_tensor(t.lesion) & (value(learn, x) > 0)][:24]
    res, own = {}, learn.aae.state_dict()
    own = {k: v.clone() for k, v in own.items()}
    for kind in kinds_of_spoiled:
        for i in range(n):
            learn.aae.load_state_dict(spoiled(learn, kind, 10 * seed + i).state_dict())
            kept = learn.evidence_kept(x)
            res.setdefault(f'{kind}: evidence kept', []).append(float(np.nanmedian(kept.kept.numpy())))
            res.setdefault(f'{kind}: gate open', []).append(kept.gate is True)
            learn.aae.load_state_dict(own)
    return {k: mean(v) for k, v in res.items()}


# The marker, and Fashion-MNIST's square


def marker(seed, share):
    "Energy of the walk's change on the letter, over chance, in images that carry it"
    c, t = cohort(160, seed=seed, marker=share), cohort(60, seed=500 + seed, marker=(0.5, 0.5))
    learn = trained(c, seed)
    xt = torch.as_tensor(t.images)[:, None]
    rows = np.flatnonzero(t.marker & (value(learn, xt).numpy() > 0))
    cf = learn.counterfactuals(xt[rows], kappas=(0, 2))
    change = (cf.pictures[:, 1] - cf.pictures[:, 0])[:, 0].numpy()
    inside = [(a[m] ** 2).sum() / (a**2).sum() / m.mean() for a, m in zip(change, t.letter[rows])]
    return np.median(inside)


def squares(seed, planted, n=1000):
    "Is a square that gives two classes away the first patch of the mean difference map?"
    rng = np.random.default_rng(seed)
    every = np.frombuffer(gzip.open(fashion).read(), np.uint8, offset=16).reshape(-1, 28, 28) / 255
    classes = np.frombuffer(gzip.open(str(fashion).replace('images-idx3', 'labels-idx1')).read(), np.uint8, offset=8)
    rows = rng.permutation(np.flatnonzero(np.isin(classes, (2, 4))))[: n + 200]  # pullover and coat
    images = np.pad(every[rows], ((0, 0), (2, 2), (2, 2)))
    has = (classes[rows] == 4) & (rng.random(len(rows)) < 0.9)
    if planted:
        images[has, 2:6, 2:6] = 0.9
    items = pairs(images, np.array(names)[(classes[rows] == 4).astype(int)])
    learn = aae_learner(demo_dls(items[200:], items[100:200], size=32, bs=32), thin_encoder(1, 8), pretrained=False)
    learn.logger = noop
    with learn.no_bar():
        learn.fit_phases(save=False, seed=seed)
    x = learn.images(items[:100])
    x = x[value(learn, x) > 0]
    cf = learn.counterfactuals(x, kappas=(0, 2))
    change = (cf.pictures[:, 1] - cf.pictures[:, 0]).abs().mean((0, 1))
    patch = F.avg_pool2d(change[None, None], 4, 1)[0, 0]
    at = divmod(patch.argmax().item(), patch.shape[1])
    return max(abs(at[0] - 2), abs(at[1] - 2)) <= 2


# Severity


def size_of(p, c):
    "Radius of a painted lesion: of the area within 11 px of its centre that is brighter than the lung by half a lesion"
    grid, res = np.mgrid[:64, :64], []
    for a, lung, (y, x) in zip(p, c.lungs, c.centre):
        far = np.hypot(grid[0] - y, grid[1] - x)
        found = (a - np.median(a[lung & (far > 8.5)]) > 0.085) & lung & (far < 11)
        res.append(np.sqrt(found.sum() / np.pi))
    return np.array(res)


def severity(seed):
    "Slope and rank correlation of measured over asked radius"
    c, t = cohort(320, seed=600 + seed), cohort(60, seed=700 + seed, sites=(2,))
    c, t = c[c.lesion], t[t.lesion]
    held = c.patient // 2 % 10 == 0
    items = [((a * 255).round().astype('uint8'), np.float32(r)) for a, r in zip(c.images, c.radius - 5)]
    block = DataBlock((ImageBlock(PILImageBW), RegressionBlock), getters=[ItemGetter(0), ItemGetter(1)],
                      splitter=IndexSplitter(np.flatnonzero(held)))
    learn = aae_learner(block.dataloaders(items, bs=32), thin_encoder(1, 8), pretrained=False, seed=seed,
                        loss_func=OrdinalLoss())
    learn.logger = noop
    with learn.no_bar():
        learn.fit_phases(save=False, seed=seed)
    x = torch.as_tensor(t.images)[:, None]
    scale, offset = np.polyfit(size_of(t.images, t), t.radius, 1)

    def measure(pictures):
        return scale * size_of(pictures[:, 0].numpy(), t) + offset

    res = {'severity: Spearman of the prediction': spearmanr(learn.encode(x)[1][:, 0], t.radius).statistic}
    for kind in kinds:
        walks = learn.counterfactuals(x, change=2.5, kappas=(-1, -0.5, 0, 0.5, 1), kind=kind)
        dose = walks.dose(measure)
        res |= {f'{kind}: severity, slope': dose.slope, f'{kind}: severity, Spearman': dose.rank}
    return res


# Cost


def cost(rounds=5):
    "Seconds of a classifier step: with swaps, with the consistency term, with neither"
    torch.manual_seed(0)
    model = AAE(64, 1, arch=thin_encoder(1, 8), pretrained=False).train()
    x, y = torch.rand(32, 1, 64, 64), torch.randint(0, 2, (32,))
    settings = dict(swaps=(1.0, 0.0), consistency=(0.0, 0.3), neither=(0.0, 0.0))
    took = {k: [] for k in settings}
    for _ in range(rounds + 1):
        for k, (model.swap_weight, model.cons_weight) in settings.items():
            start = time.perf_counter()
            model.zero_grad(set_to_none=True)
            model.classif_loss_func(model(x), y).backward()
            took[k].append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {k: np.median(v[1:]) for k, v in took.items()} | {'peak': peak}


bounds = {
    'z: energy': dict(least=4),
    'image: energy': dict(least=4),
    'z: energy over the best map': dict(least=0.9),
    'image: energy over the best map': dict(least=0.9),
    'z: point': dict(least=0.9),
    'image: point': dict(least=0.9),
    'z: contrast left': dict(most=0.25),
    'image: contrast left': dict(most=0.25),
    'added: one blob in a lung': dict(least=0.8),
    'picture: contrast': dict(least=0.6),
    'picture: highest frequencies': dict(most=2),
    'evidence kept': dict(least=0.8),
    'z: model reads as healthy, disturbed': dict(least=0.95),
    'image: model reads as healthy, disturbed': dict(least=0.95),
    'z: judge reads as healthy': dict(least=0.9),
    'image: judge reads as healthy': dict(least=0.9),
} | {f'{k}: evidence kept': dict(most=0.4) for k in kinds_of_spoiled}
bounds |= {f'{k}: gate open': dict(most=0.05) for k in kinds_of_spoiled}
bounds |= {f'{k}: severity, slope': dict(least=0.8, most=1.2) for k in kinds}
bounds |= {f'{k}: severity, Spearman': dict(least=0.9) for k in kinds}


def rows(table, found):
    "A row for each figure: the mean of the seeds, and each"
    for k in found[0]:
        each = [f[k] for f in found]
        table.row(k, mean(each), **bounds.get(k, {}), note='seeds ' + ', '.join(f'{v:.3g}' for v in each))


def without_swaps(seed):
    "Accuracy and AUC of the model that isn't trained on swaps"
    c, t = cohort(160, seed=seed), cohort(60, seed=100 + seed, sites=(2,))
    said = value(trained(c, seed, swap_weight=0.0), torch.as_tensor(t.images)[:, None]).numpy()
    return {'accuracy': ((said > 0) == t.lesion).mean(), 'AUC': roc_auc_score(t.lesion, said)}


def compare(table, found, plain):
    "Accuracy and AUC, with swaps less without"
    for k in plain[0]:
        gain = mean(f[k] - p[k] for f, p in zip(found, plain))
        note = 'without them ' + ', '.join(f'{p[k]:.3f}' for p in plain)
        table.row(f'{k}, with swaps less without', gain, least=-0.005, note=note)


def costs(table, took):
    note = ', '.join(f'{k} {v:.2f} s' for k, v in took.items() if k != 'peak')
    ratio = took['swaps'] / took['consistency']
    table.row('classifier step, swaps over the consistency term', ratio, most=1.5, note=note)
    table.say(f"peak memory of these steps {took['peak']:.2f} GiB")


def one_row(table, name, found, **bound):
    "A row for the one figure of a part"
    found = [next(iter(f.values())) for f in found]
    table.row(name, mean(found), note='seeds ' + ', '.join(f'{v:.3g}' for v in found), **bound)


def whole(seed, n_spoiled):
    "One seed of the main table"
    learn, res = measure(seed)
    return res | (gates(learn, seed, n_spoiled) if n_spoiled else {})


def parts(n_spoiled):
    "What is measured of each seed, by name; of all seeds one after the other"
    yield 'seed', lambda i: whole(i, n_spoiled)
    yield 'severity', severity
    yield 'without swaps', without_swaps
    yield 'marker, with the shortcut', lambda i: {'energy': marker(i, (0.05, 0.9))}
    yield 'marker, without it', lambda i: {'energy': marker(i, (0.5, 0.5))}
    if fashion.exists():
        yield 'square, planted', lambda i: {'found': squares(i, True)}
        yield 'square, not there', lambda i: {'found': squares(i, False)}


def show(kept):
    "The table of all that is kept"
    table = Table('evidence')
    each = {k: [kept.found[o] for o in sorted(kept.found) if o.startswith(f'{k} ')] for k, _ in parts(0)}
    for k in ('seed', 'severity'):
        if each[k]:
            rows(table, each[k])
    if each['without swaps']:
        compare(table, each['seed'], each['without swaps'])
    for k, bound in short.items():
        if each.get(k):
            one_row(table, k, each[k], **bound)
    if 'cost' in kept.found:
        costs(table, kept.found['cost'])
    table.end()


short = {
    'marker, with the shortcut': dict(least=4),
    'marker, without it': dict(most=1.5),
    'square, planted': dict(least=1),
    'square, not there': dict(most=0),
}

if __name__ == '__main__':
    kept = Kept('evidence', 'evidence.py', 'cohort.py')
    if sys.argv[1:] != ['kept']:
        n_seeds, n_spoiled = (int(o) for o in (sys.argv[1:] + ['5', '4'][len(sys.argv) - 1 :])[:2])
        kept('cost', cost)
        for i in range(n_seeds):
            for what, measured in parts(n_spoiled):
                kept(f'{what} {i}', lambda: measured(i))
    show(kept)

"""Do counterfactual pictures hold?

`python bench/counterfactuals.py [SEEDS]` (three seeds by default: about 20 minutes on two cores)

For each seed a model trained as the demo is, with 20 latent dimensions, and one without swaps. On
held-out digits, every ordered pair of classes and every correctly classified image: no image is left out and no
strength is searched for. Pictures are rounded to 8 bits before they are read again; the target has to win over all
ten classes. The judge is another network, trained on real images only.
"""

import statistics, sys, time, warnings

import torch
from torch import nn

warnings.filterwarnings('ignore')
from xaaenet.all import *
from xaaenet.demo import *
from _table import Table  # after fastai's names, of which one is the same

n_seeds, lr, dims, epochs, kappas = (
    int(sys.argv[1]) if len(sys.argv) > 1 else 3,
    3e-3,
    20,
    (1, 8, 6),
    (1.0, 1.2, 1.5, 2.0, 2.5, 3.0),
)
train, valid, test = split_items(demo_items()[0])


def trained(seed, **kwargs):
    set_seed(seed, reproducible=True)
    learn = aae_learner(demo_dls(train, valid), demo_encoder(), encoding_dims=dims, **kwargs)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    learn.fit_phases(*epochs, lr=lr, save=False)
    return learn


def judge():
    "A plain network without residuals, batch norm or strides, trained on real images"
    set_seed(0, reproducible=True)

    def block(i, o):
        return nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1), nn.GELU(), nn.Conv2d(o, o, 3, padding=1), nn.GELU(), nn.MaxPool2d(2)
        )

    net = nn.Sequential(
        block(1, 16), block(16, 32), block(32, 64), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 16, 10)
    )
    learn = Learner(demo_dls(train, valid), net, loss_func=CrossEntropyLossFlat(), metrics=accuracy)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    learn.fit_one_cycle(20, 2e-3)
    net.eval()

    def predict(x):
        with torch.no_grad():
            return torch.cat([net(o.to(learn.dls.device)).argmax(1).cpu() for o in x.split(256)])

    return predict


def disturb(x, sigma=2 / 255, blur=0.5):
    "Noise and a blur of half a pixel"
    g = torch.exp(-torch.arange(-2.0, 3) ** 2 / (2 * blur**2))
    g = (g / g.sum())[None, None]
    x = F.conv2d(F.conv2d(F.pad(x, (2, 2, 2, 2), 'replicate'), g[..., None]), g[:, :, None])
    return to_8_bit((x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1))


def own_radii(learn, ref):
    "A stricter realism: with a covariance for each class, of 129 training images, in place of one for all"
    fit, held = learn.latents(0), learn.latents(1)

    def distance(z, k):
        d = z.double() - ref.means[k]
        return (torch.linalg.solve(covs[k], d.T).T * d).sum(1).sqrt()

    covs = {k: Reference._cov(fit.z[fit.targets == k]) for k in ref.means}
    limit = torch.cat([distance(held.z[held.targets == k], k) for k in covs]).sort().values
    limit = limit[min(len(limit), math.ceil(0.99 * (len(limit) + 1))) - 1]
    return lambda z, k: distance(z, k) / limit


def study(learn, judged):
    "Every walk from every correctly classified held-out image"
    dl = learn.dls.test_dl(test, with_labels=True)
    lat = learn.latents(dl=dl)
    ok = lat.correct
    rows_of, x, own = ok.nonzero().flatten(), learn.images(dl)[ok], lat.targets[ok]
    plain, ref = learn.decode(lat.z), learn.reference()
    own_cov = own_radii(learn, ref)
    res = dict(
        accuracy=ok.float().mean().item(),
        plain_kept=(learn.encode(plain)[1].argmax(1) == lat.preds).float().mean().item(),
        plain_judged=(judged(plain) == lat.targets).float().mean().item(),
        ms_ssim=ms_ssim(plain, learn.images(dl)).item(),
        swd=sliced_wasserstein(lat.z) / gaussian_swd(*lat.z.shape),
    )
    rows = []
    for t in range(10):
        on = (own != t).nonzero().flatten()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # flagged images stay in
            cfs = learn.counterfactuals(x[on], str(t), kappas=kappas)
        two, needed = cfs.pictures[:, cfs.k(2.0)], cfs.needed.numpy()
        table_ = cfs.df(2.0)
        cols = {f'holds {k:g}': np.where(needed, cfs.holds(k).numpy(), np.nan) for k in kappas} | {
            f'in z {k:g}': (cfs.said[:, cfs.k(k)].argmax(1) == t).numpy() for k in (1.2, 2.0)
        }
        rows.append(
            pd.DataFrame(
                dict(
                    image=rows_of[on].numpy(),
                    own=own[on].numpy(),
                    target=t,
                    gain=cfs.gain(2.0).numpy(),
                    closeness=table_.closeness,
                    realism=table_.realism,
                    still=ref.realism(cfs.z, t).numpy(),
                    own_cov=own_cov(cfs.walked(2.0), t).numpy(),
                    disturbed=(learn.encode(disturb(two))[1].argmax(1) == t).numpy(),
                    judged=(judged(two) == t).numpy(),
                    **cols,
                )
            )
        )
    return res, pd.concat(rows, ignore_index=True)


def interval(df, f, n=500):
    "Bootstrap over images, of the mean over pairs: a walk is no draw of its own"
    df, rng = df[np.isfinite(f(df).astype(float))], np.random.RandomState(0)
    weight = 1 / df.groupby(['own', 'target']).image.transform('size')
    by = pd.DataFrame(dict(v=f(df) * weight, w=weight, image=df.image)).groupby('image')[['v', 'w']].sum()
    sums, counts, by = by.v.values, by.w.values, by
    i = rng.randint(len(by), size=(n, len(by)))
    lo, hi = np.percentile(sums[i].sum(1) / counts[i].sum(1), [2.5, 97.5])
    return f'95 % {lo:.3f}–{hi:.3f}'


def seeds(results, f):
    return ', '.join(f'{f(o):.3f}' for o in results)


def report(name, results, bound):
    "Rows of the table; bounds are for the model with swaps"
    say, b = (
        lambda label, values, least=None, most=None, note='': table.row(
            label,
            statistics.mean(values),
            least=least if bound else None,
            most=most if bound else None,
            note=f'seeds {", ".join(f"{v:.3f}" for v in values)} {note}',
        )
    ), pd.concat([d for _, d in results])
    table.say(f'--- {name}: {len(results[0][1])} walks a seed')
    needed = [d['holds 2'].notna().mean() for _, d in results]
    say('walks that were needed: neither the image nor its reconstruction was the target', needed)
    for k in kappas:
        say(
            f'validity at κ={k:g}, mean over pairs',
            [d.groupby(['own', 'target'])[f'holds {k:g}'].mean().mean() for _, d in results],
            {1.2: 0.70, 2.0: 0.95}.get(k),
            note=interval(b, lambda g: g[f'holds {k:g}']),
        )
    worst = [d.groupby(['own', 'target'])['holds 2'].mean() for _, d in results]
    say(
        'validity at κ=2, worst pair (least of the seeds)',
        [min(w.min() for w in worst)],
        0.80,
        note=', '.join(f'{w.min():.3f} {w.idxmin()[0]} to {w.idxmin()[1]}' for w in worst),
    )
    say('target wins in z itself at κ=2', [d['in z 2'].mean() for _, d in results])
    say('median gain at κ=2, least', [d.gain.median() for _, d in results], 0.9)
    say('median gain at κ=2, most', [d.gain.median() for _, d in results], most=1.1)
    say(
        'points lost to noise and blur at κ=2',
        [100 * (d['holds 2'].mean() - d.disturbed[d['holds 2'].notna()].mean()) for _, d in results],
        most=3,
    )
    say(
        'an independent network sees the target, κ=2',
        [d.judged.mean() for _, d in results],
        0.85,
        note=interval(b, lambda g: g.judged),
    )
    say('  its accuracy on plain z-only pictures', [r['plain_judged'] for r, _ in results])
    say(
        'closeness at most 1',
        [(d.closeness <= 1).mean() for _, d in results],
        0.90,
        note=interval(b, lambda g: g.closeness <= 1),
    )
    say(
        'realism: within the 99 % radius',
        [(d.realism <= 1).mean() for _, d in results],
        0.90,
        note=interval(b, lambda g: g.realism <= 1),
    )
    say('  the same of the images before they are moved', [(d.still <= 1).mean() for _, d in results])
    say('  within the radius by a covariance of the class alone', [(d.own_cov <= 1).mean() for _, d in results])
    say('plain z-only pictures keep the prediction', [r['plain_kept'] for r, _ in results], 0.98)
    say('accuracy', [r['accuracy'] for r, _ in results])
    say('MS-SSIM of z-only pictures', [r['ms_ssim'] for r, _ in results])
    say('sliced Wasserstein distance over a Gaussian sample\'s', [r['swd'] for r, _ in results])


if __name__ == '__main__':
    table, judged = Table('counterfactuals'), judge()
    real = torch.cat([x.cpu() for x, _ in demo_dls(train, valid).test_dl(test, with_labels=True)]).as_subclass(
        torch.Tensor
    )
    names = sorted({y for _, y in test})
    table.row(
        'accuracy of the independent network on real held-out images',
        (judged(real) == torch.tensor([names.index(y) for _, y in test])).float().mean().item(),
    )
    for name, kwargs in (('with swaps (the default)', {}), ('without them', dict(swap_weight=0.0))):
        results, times = [], []
        for s in range(n_seeds):
            start = time.time()
            learn = trained(s, **kwargs)
            times.append(time.time() - start)
            results.append(study(learn, judged))
        report(name, results, not kwargs)
        table.say(f'training took {", ".join(f"{t:.0f}" for t in times)} s')
    table.end()

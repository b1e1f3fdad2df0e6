"""Does a warm start paint better pictures than the first epochs do, and does it keep a small finding?

`python bench/start.py [SEEDS]` (three by default; 12 minutes on one core)

Two data sets of 640 training images: the cohort of `bench/cohort.py` (64 px), and Fashion-MNIST where Debian's
`dataset-fashion-mnist` is installed (32 px; digits else). Thin encoder of width 8, 128 dimensions. Three starts of the
same model, on held-out images: 250 steps of the autoencoder phase from random weights; the warm start alone, with no
step of any phase; a PCA of the training images with as many dimensions. Of the cohort also the lesion's contrast in the
picture, over that in the image.
"""

import gzip, sys, time
from pathlib import Path
from statistics import mean

import numpy as np, torch, torch.nn.functional as F
from cohort import cohort, lesion_contrast
from fastai.vision.all import noop
from sklearn.datasets import load_digits

from _table import Table
from xaaenet.all import aae_learner, ms_ssim
from xaaenet.demo import demo_dls
from xaaenet.test_utils import thin_encoder

dims = 128
fashion = Path('/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz')


def small_images(seed, n=640, n_test=240):
    "Training and held-out images, `[n, 1, 32, 32]`, and their name"
    rng = np.random.default_rng(seed)
    if fashion.exists():
        every = np.frombuffer(gzip.open(fashion).read(), np.uint8, offset=16).reshape(-1, 28, 28) / 255
        every = np.pad(every, ((0, 0), (2, 2), (2, 2)))
    else:
        every = load_digits().images / 16
    some = torch.tensor(every[rng.permutation(len(every))[: n + n_test]]).float()[:, None]
    some = F.interpolate(some, 32, mode='bilinear')
    return some[:n], some[n:], 'Fashion-MNIST' if fashion.exists() else 'digits'


def learner(x, y):
    "A learner of images in memory"
    pairs = [((a[0] * 255).round().byte().numpy(), str(int(b))) for a, b in zip(x, y, strict=True)]
    cut = len(pairs) * 9 // 10
    dls = demo_dls(pairs[:cut], pairs[cut:], size=x.shape[-1], bs=32)
    learn = aae_learner(dls, thin_encoder(1, 8), pretrained=False, encoding_dims=dims)
    learn.logger = noop
    return learn


def pca(x, test):
    "Held-out images painted by principal components of the training images"
    flat = x.flatten(1)
    directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:dims]
    return ((test.flatten(1) - flat.mean(0)) @ directions.T @ directions + flat.mean(0)).view_as(test).clamp(0, 1)


def contrast(p, c):
    "Lesion's contrast in pictures, over that in the images"

    def of(q):
        return np.nanmean(lesion_contrast(q[c.lesion], c.mask[c.lesion], c.lungs[c.lesion]))

    plain = of(c.clean)
    return (of(p[:, 0].numpy()) - plain) / (of(c.images) - plain)


def pictures(x, y, test, seed):
    "Held-out images as each start paints them, and the seconds that it took"
    res, took = {'PCA': pca(x, test)}, {'PCA': 0}
    for name in ('random weights, 250 steps', 'warm start alone'):
        torch.manual_seed(seed)
        learn, start = learner(x, y), time.perf_counter()
        if name.startswith('warm'):
            learn.warm_start(seed=seed)
        else:
            with learn.no_bar():
                learn.fit_autoencoder(250 // len(learn.dls.train) + 1, lr=3e-3, save=False)
        took[name] = time.perf_counter() - start
        res[name] = learn.decode(learn.encode(test)[0])
    return res, took


def sets(seed):
    "Data sets: name, training images, labels, held-out images, and the cohort of the latter"
    a, b = cohort(160, seed=seed), cohort(40, seed=100 + seed)
    yield 'cohort', torch.as_tensor(a.images)[:, None], a.lesion, torch.as_tensor(b.images)[:, None], b
    x, test, name = small_images(seed)
    yield name, x, np.arange(len(x)) % 2, test, None


def measure(seeds):
    found = {}
    for seed in range(seeds):
        for name, x, y, test, c in sets(seed):
            res, took = pictures(x, y, test, seed)
            for start, p in res.items():
                one = dict(l1=F.l1_loss(p, test).item(), ssim=ms_ssim(p, test).item(), seconds=took[start])
                if c is not None:
                    one['contrast'] = contrast(p, c)
                found.setdefault((name, start), []).append(one)
    return found


def report(table, found):
    for (name, start), runs in found.items():
        each = {k: [r[k] for r in runs] for k in runs[0]}
        note = f"MS-SSIM {mean(each['ssim']):.3f}, {mean(each['seconds']):.0f} s; seeds " + ', '.join(
            f'{v:.3f}' for v in each['l1']
        )
        best = mean(r['l1'] for r in found[name, 'PCA'])
        most = 1.25 * best if start.startswith('warm') else None
        table.row(f'{name}: L1, {start}', mean(each['l1']), most=most, note=note)
        if 'contrast' in each:
            least = 0.6 if start.startswith('warm') else None
            seeds = ', '.join(f'{v:.2f}' for v in each['contrast'])
            label = f'{name}: lesion contrast kept, {start}'
            table.row(label, mean(each['contrast']), least=least, note=f'seeds {seeds}')


if __name__ == '__main__':
    table = Table('start')
    report(table, measure(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
    table.end()

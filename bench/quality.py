"""How good are the phases, and what is each part for?

`python bench/quality.py [PART ...]` (all parts: up to 20 minutes on two cores)

Parts: pca (z-only pictures against a PCA), fastai (accuracy against a plain classifier), ablations, body (the
encoder's rate in the adversarial phase). Some parts alone write a table of their own.

All on scikit-learn's digits at 32 px with the demo's thin encoder and 16 latent dimensions, measured on test images
that were used for neither training nor choosing epochs.
"""

import statistics, sys, warnings

import torch
from torch import nn

warnings.filterwarnings('ignore')
from sklearn.linear_model import LogisticRegression
from xaaenet.all import *
from xaaenet.demo import *
from _table import Table  # after fastai's names, of which one is the same

lr, train, valid, test = 3e-3, *split_items(demo_items()[0])


def quiet(learn):
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn


def data(bs=64):
    return demo_dls(train, valid, bs=bs)


def aae(seed=0, arch=None, bs=64, **kwargs):
    set_seed(seed, reproducible=True)
    return quiet(aae_learner(data(bs), arch or demo_encoder(), encoding_dims=16, metrics=accuracy, **kwargs))


def fit(learn, *phases):
    for name, n, kwargs in phases:
        getattr(learn, f'fit_{name}')(n, **{**dict(lr=lr, save=False), **kwargs})
    return learn


def measure(learn):
    lat, x = learn.latents(dl=learn.dls.test_dl(test, with_labels=True)), learn.images(test)
    pics, z = learn.decode(lat.z), lat.z
    return dict(
        accuracy=lat.correct.float().mean().item(),
        ms_ssim=ms_ssim(pics, x).item(),
        l1=F.l1_loss(pics, x).item(),
        swd=sliced_wasserstein(z) / gaussian_swd(*z.shape),
        auc=auc_gaussian(z),
    )


def plain_classifier(seed, n_epoch):
    "fastai's `vision_learner` with the same encoder and as many epochs"
    set_seed(seed, reproducible=True)
    learn = quiet(
        Learner(data(), nn.Sequential(Neutral(), demo_encoder(), create_head(128, 10)), metrics=accuracy)
    )  # what `vision_learner` makes of a body
    learn.fit_one_cycle(n_epoch, lr)
    probs, targs = learn.get_preds(dl=learn.dls.test_dl(test, with_labels=True))
    return (probs.argmax(1) == targs).float().mean().item()


class Neutral(nn.Module):
    "What `AAE` does to images of one channel before the encoder"

    def forward(self, x):
        return (x - 0.5) / 0.25


def probe(encoder):
    "Test accuracy of a logistic regression on the encoder's pooled features"
    learn = aae()

    def feats(items):
        with torch.no_grad():
            return encoder.eval()(Neutral()(learn.images(items))).mean((2, 3)).numpy(), [y for _, y in items]

    return LogisticRegression(max_iter=2000).fit(*feats(train)).score(*feats(test))


def line(name, m):
    painted = f'MS-SSIM {m["ms_ssim"]:.3f}  L1 {m["l1"]:.3f}'
    latent = f'swd ratio {m["swd"]:.2f}  AUC {m["auc"]:.2f}'
    table.say(f'{name:58} accuracy {m["accuracy"]:.3f}  {painted}  {latent}')


A, E, C = (
    (lambda n, **k: ('adversarial', n, k)),
    (lambda n, **k: ('autoencoder', n, k)),
    (lambda n, **k: ('classifier', n, k)),
)


def pca():
    table.say('--- z-only pictures against a PCA of as many dimensions')
    long = fit(
        aae(bs=32), A(1), E(40, adv_weight=0.02, mask=0.0)
    )  # less of the game, and noise alone: both hold back the picture
    m, base = measure(long), baselines(long, train, test, 16)
    table.row(
        'L1 of z-only pictures, 1+40 epochs, batches of 32',
        m['l1'],
        most=base['l1_pca'],
        note=f'PCA-16 {base["l1_pca"]:.4f}',
    )
    table.row('MS-SSIM of z-only pictures', m['ms_ssim'], note=f'PCA-16 {base["ms_ssim_pca"]:.4f}')
    table.row('sliced Wasserstein distance over that of a Gaussian sample', m['swd'])


def fastai():
    table.say('--- accuracy against fastai, same encoder, same number of epochs, 3 seeds')
    ours = [measure(fit(aae(s), A(1), E(8), C(6)))['accuracy'] for s in range(3)]
    plain = [plain_classifier(s, 15) for s in range(3)]
    table.row(
        'mean difference in percentage points',
        100 * (statistics.mean(ours) - statistics.mean(plain)),
        least=-0.5,
        note=f'ours {", ".join(f"{o:.3f}" for o in ours)}; plain {", ".join(f"{o:.3f}" for o in plain)}',
    )


def ablations():
    table.say('--- ablations, 1+4+3 epochs, one seed')
    line('as it is', measure(fit(aae(), A(1), E(4), C(3))))
    line('classifier phase before the autoencoder phase', measure(fit(aae(), A(1), C(3), E(4))))
    line('adversarial phase last', measure(fit(aae(), E(4), C(3), A(1))))
    line('without the adversarial phase', measure(fit(aae(), E(4), C(3))))
    line('without adversarial phase and generator\'s loss', measure(fit(aae(adv_weight=0.0), E(4), C(3))))
    line('without decorrelation (cov_weight 0)', measure(fit(aae(cov_weight=0.0), A(1), E(4), C(3))))
    for p in (0.5, 0.0):
        line(f'skip_dropout {p:g} (pictures with skips closed)', measure(fit(aae(skip_dropout=p), A(1), E(4), C(3))))


def body():
    table.say(
        '--- the encoder\'s rate in the adversarial phase (5 epochs), on an encoder that was trained to classify'
    )
    set_seed(0, reproducible=True)
    enc = demo_encoder()
    quiet(Learner(data(), nn.Sequential(Neutral(), enc, create_head(128, 10)))).fit_one_cycle(6, lr)
    table.row('probe accuracy of its features before', probe(enc))
    state = {k: v.clone() for k, v in enc.state_dict().items()}
    for name, rate in (('0, the default for pretrained encoders', 0.0), ('a tenth', lr / 10), ('the full rate', lr)):
        enc.load_state_dict(state)
        fit(aae(arch=enc), A(5, body_lr=rate))
        table.row(f'after, at {name}', probe(enc))


parts = dict(pca=pca, fastai=fastai, ablations=ablations, body=body)
chosen = sys.argv[1:] or list(parts)
if unknown := set(chosen) - set(parts):
    sys.exit(f'there is no part {", ".join(unknown)}; the parts are {", ".join(parts)}')
table = Table('quality' if len(chosen) == len(parts) else f'quality-{"-".join(chosen)}')
for o in chosen:
    parts[o]()
table.end()

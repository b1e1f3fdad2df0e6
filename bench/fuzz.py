"""Does every configuration either train or say what is wrong?

`python bench/fuzz.py [EXAMPLES] [SEED]` (520 examples and seed 0 by default: two minutes on one free core)

Hypothesis draws configurations of `AAE` (one optimizer step in each phase by hand) and of `aae_learner`
(`fit_phases(1, 1, 1)` on one batch): image size, square or not, channels, latent dimensions, outputs, tasks and
losses, skip dropout, encoders (own modules, constructors, timm's, and things that are none), precision, batch size,
and weights; up to two of them are drawn from values that can't work. Each example must end in one of two ways: a
finite loss in each phase with outputs of the right shapes and finite weights, or one of the errors listed under
`documented`, which is the list of what a user may see. Nothing is shrunk or stopped at, so that one run lists all
the faults: each is shown with the configuration that met it first. The same seed draws the same examples.
"""

import os, re, sys, traceback, warnings
from collections import Counter
from functools import partial

warnings.filterwarnings('ignore')
os.environ['HF_HUB_OFFLINE'] = '1'  # else timm's download is tried for a minute
import torch
from torch import nn
from torchvision.models import resnet18
from hypothesis import HealthCheck, Phase as Stage, given, seed, settings, strategies as st
from xaaenet.all import *
from _table import Table

documented = [  # (type, pattern): every error that a configuration may end in
    (ValueError, r"MS-SSIM needs at least 11 px"),
    (ValueError, r"`input_size` is a number of pixels or \(height, width\)"),
    (ValueError, r"`(input_channels|encoding_dims|classes|n_out)` must be a whole number of 1 or more"),
    (ValueError, r"`(rec|adv|cov|pred|cons)_weight` must be a finite number of 0 or more"),
    (ValueError, r"One class leaves nothing to tell apart"),
    (ValueError, r"`stats` are a mean and a std"),
    (FloatingPointError, r"The loss of step .* isn't a finite number"),
    (ValueError, r"`skip_dropout` is a probability"),
    (ValueError, r"`skip_dropout` .* would scale what it lets through"),
    (ValueError, r"`task` is one of"),
    (ValueError, r"The encoder gives .*, not a feature map"),
    (ValueError, r".* can't take images of \d+ channels and \d+x\d+ px"),
    (ValueError, r".* makes an empty feature map"),
    (ValueError, r".* pools its feature map away"),
    (ValueError, r"Images of \d+x\d+ px are smaller than .* allows"),
    (ValueError, r"arch='.*' is no timm network"),
    (ValueError, r"timm can't make '.*' into a network of feature maps"),
    (TypeError, r"`arch` .* makes a .*, not an nn.Module"),
    (TypeError, r"`arch` must be a constructor"),
    (TypeError, r"`arch` .* can't be called"),
    (OSError, r"The pretrained weights of .* are neither in the cache"),
    (ValueError, r"A batch of one image can't be trained on"),
    (ValueError, r"The model was made for images \[B, "),
    (TypeError, r"Images must be floats in \[0, 1\], not"),
    (ValueError, r"Images and pictures must be numbers in \[0, 1\]"),
    (ValueError, r"The dls give .* for input, and images \[B, C, H, W\] are needed"),
    (TypeError, r"The dls give images of .*, and floats in \[0, 1\] are needed"),
    (ValueError, r"Pixel values must be in \[0, 1\]"),
    (ValueError, r"The last of the batches of \d+ would hold one image"),
    (ValueError, r"The training set of \d+ items doesn't fill one batch"),
    (ValueError, r"There is no validation set"),
    (ValueError, r"The dls have no targets"),
    (ValueError, r"The targets are (masks|boxes|points)"),
    (ValueError, r"The targets have missing values"),
    (ValueError, r"The targets are .*, and a tensor of"),
    (ValueError, r"The number of outputs can't be told"),
    (ValueError, r"All images have one class"),
    (ValueError, r"The prediction loss can't be told"),
    (ValueError, r"The prediction loss .* doesn't take"),
]


def is_documented(e):
    return next((p for t, p in documented if isinstance(e, t) and re.match(p, str(e))), None)


conv = lambda i, o, s=2: nn.Sequential(nn.Conv2d(i, o, 3, s, 1), nn.BatchNorm2d(o), nn.ReLU())


class Branchy(nn.Module):
    "No `nn.Sequential`, and a residual"

    def __init__(self, n_in):
        super().__init__()
        self.a, self.b, self.c = conv(n_in, 8), conv(8, 16), conv(16, 16, 1)

    def forward(self, x):
        x = self.b(self.a(x))
        return x + self.c(x)


class Last(nn.Module):
    "`body`, then `f`"

    def __init__(self, body, f):
        super().__init__()
        self.body, self.f = body, f

    def forward(self, x):
        return self.f(self.body(x))


class NoWeights(nn.Module):
    def forward(self, x):
        return nn.functional.avg_pool2d(x, 4)


def small(n_in, n=2):
    return nn.Sequential(*[conv(n_in if i == 0 else 4 * 2**i, 8 * 2**i) for i in range(n)])


good_archs = {
    'three convolutions': lambda c: small(c, 3),
    'two convolutions': small,
    'one convolution': lambda c: small(c, 1),
    'a residual': Branchy,
    'no stride': lambda c: nn.Sequential(conv(c, 4, 1)),
    'channels last': lambda c: Last(small(c), partial(torch.permute, dims=(0, 2, 3, 1))),
    'no weights': lambda c: NoWeights(),
    'frozen': lambda c: small(c).requires_grad_(False),
    'group norm': lambda c: nn.Sequential(nn.Conv2d(c, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.GELU()),
    'class': lambda c: partial(Branchy, c),
    'timm resnet': lambda c: 'test_resnet',
    'timm efficientnet': lambda c: 'test_efficientnet',
    'timm convnext': lambda c: 'test_convnext',
    'resnet18': lambda c: resnet18,
    'half precision': lambda c: small(c).half(),
}
bad_archs = {
    'vectors': lambda c: Last(small(c), lambda x: x.mean((2, 3))),
    'tokens': lambda c: Last(small(c), lambda x: x.flatten(2).transpose(1, 2)),
    'a tuple': lambda c: Last(small(c), lambda x: (x, x)),
    'a dict': lambda c: Last(small(c), lambda x: {'x': x}),
    'nothing': lambda c: Last(small(c), lambda x: None),
    'whole numbers': lambda c: Last(small(c), lambda x: x.long()),
    'a crash': lambda c: Last(small(c), lambda x: x[None]['a']),
    'pooled': lambda c: nn.Sequential(small(c), nn.AdaptiveAvgPool2d(1)),
    'too deep': lambda c: small(c, 7),
    'other channels': lambda c: small(c + 1),
    'empty': lambda c: nn.Sequential(),
    'no features': lambda c: Last(small(c), lambda x: x[:, :0]),
    'no name': lambda c: 'resnet1000',
    'empty name': lambda c: '',
    'timm without maps': lambda c: 'test_vit',
    'None': lambda c: None,
    'a number': lambda c: 34,
    'a function': lambda c: (lambda: 3),
    'arguments needed': lambda c: Branchy,
    'raises': lambda c: (lambda: 1 / 0),
}

good_losses = {
    'category': (None, CrossEntropyLossFlat, LabelSmoothingCrossEntropyFlat, FocalLossFlat, nn.CrossEntropyLoss),
    'labels': (BCEWithLogitsLossFlat, nn.BCEWithLogitsLoss),
    'score': (MSELossFlat, nn.MSELoss, nn.SmoothL1Loss),
}

# what each setting may be, and what can't work
one_of = lambda *o: lambda r: r.choice(o)
weights = 'rec_weight', 'adv_weight', 'cov_weight', 'pred_weight', 'cons_weight'
good = dict(
    size=one_of(24, 32, 33, 40, (32, 48), (40, 33), (20, 32)),
    channels=one_of(1, 2, 3, 3, 4, 5),
    dims=lambda r: r.randint(1, 24),
    outs=one_of(1, 2, 2, 3, 6),
    dropout=one_of(0, 0.3, 0.9, 1, 1.0),
    arch=one_of(*good_archs),
    batch=lambda r: r.randint(2, 6),
    precision=one_of('fp32', 'fp32', 'bf16', 'fp16'),
    images=one_of('floats', 'floats', 'floats', 'black', 'white', 'double', 'half'),
    weights=lambda r: {k: r.choice([0, r.uniform(0, 20)]) for k in r.sample(weights, r.randint(0, 3))},
    task=one_of(*good_losses),
    loss=lambda r: r.randint(0, 4),
    stats=one_of(None, None, 'neutral'),
    pretrained=one_of(False),
)
bad = dict(
    size=one_of(10, 5, 0, -8, (32,), (32, 32, 32), (32, 8), 32.5, '32', None, float('nan')),
    channels=one_of(0, -1, 2.5, '3', None),
    dims=one_of(0, -3, 1.5, '8', None),
    outs=one_of(0, -1, 2.5, '2'),
    dropout=one_of(-0.1, 1.5, 0.95, 2, float('nan'), '1', None),
    arch=one_of(*bad_archs),
    batch=one_of(1),
    precision=one_of('bf16', 'fp16'),
    images=one_of('bytes', 'over 1', 'under 0', 'NaN', 'other size', 'other channels', 'flat', 'infinite'),
    weights=lambda r: {r.choice(weights): r.choice([-1.0, float('nan'), float('inf'), '1', None])},
    task=one_of('mask', 'box', 'none', 'other', 'nan', 'other name'),
    loss=lambda r: r.randint(10, 13),
    stats=one_of('one too few', 'no pair', 'zero'),
    pretrained=one_of(True),
)


@st.composite
def configs(draw):
    "All settings good, but for up to two"
    r = draw(
        st.randoms(use_true_random=True)
    )  # seeded by Hypothesis: its own mutations would repeat most of an example
    wrong = r.sample(sorted(good), r.choice([0, 0, 0, 0, 1, 1, 2]))
    return {
        **{k: (bad if k in wrong else good)[k](r) for k in good},
        'learner': r.random() < 0.5,
        'seed': r.randint(0, 99),
    }


def count(o, n):
    return o if isinstance(o, int) and 0 < o < 50 else n


def images(cfg, n):
    "A batch as `cfg` says"
    size = cfg['size'] if isinstance(cfg['size'], (int, tuple)) else 32
    h, w = (size,) * 2 if isinstance(size, int) else (tuple(size) + (32,))[:2]
    c, (h, w) = count(cfg['channels'], 3), (max(h, 4), max(w, 4))
    x = torch.rand(n, c, h, w)
    k = cfg['images']
    if k == 'NaN':
        x[0, 0, 0, 0] = float('nan')
    if k == 'infinite':
        x[0, 0, 0, 0] = float('inf')
    return {
        'black': x * 0,
        'white': x * 0 + 1,
        'double': x.double(),
        'half': x.half(),
        'bytes': (x * 255).byte(),
        'over 1': x * 255,
        'under 0': x - 0.5,
        'other size': torch.rand(n, c, h + 8, w),
        'other channels': torch.rand(n, c + 1, h, w),
        'flat': x.flatten(1),
    }.get(k, x)


def targets(cfg, n):
    "Targets and a loss for `cfg`"
    task, outs = cfg['task'], count(cfg['outs'], 2)
    kind = task if task in good_losses else 'category'
    if cfg['loss'] >= 10:
        loss = [MSELossFlat(), nn.CrossEntropyLoss(weight=torch.ones(outs + 1)), (lambda a, b: 1 / 0), nn.NLLLoss][
            cfg['loss'] - 10
        ]
    else:
        loss = good_losses[kind][cfg['loss'] % len(good_losses[kind])]
        loss = loss and loss()
    y = {
        'category': TensorCategory(torch.arange(n) % outs),
        'labels': TensorMultiCategory(torch.randint(2, (n, outs)).float()),
        'score': torch.randn(n, outs) if outs > 1 else torch.randn(n),
    }[kind]
    if task == 'mask':
        y = TensorMask(torch.zeros(n, 16, 16).long())
    if task == 'box':
        y = TensorBBox(torch.zeros(n, 1, 4))
    if task == 'none':
        y = None
    if task == 'other':
        y = TensorCategory(torch.arange(n) + outs)
    if task == 'nan':
        y, loss = torch.full((n, outs), float('nan')), MSELossFlat()
    return y, loss


def options(cfg):
    "Arguments of `AAE`"
    c = count(cfg['channels'], 3)
    arch = (good_archs | bad_archs)[cfg['arch']](c)
    stats = {
        'neutral': ([0.5] * c, [0.25] * c),
        'one too few': ([0.5] * (c + 1), [0.25] * c),
        'no pair': 0.5,
        'zero': ([0.5] * c, [0.0] * c),
    }.get(cfg['stats'])
    return dict(
        encoding_dims=cfg['dims'],
        skip_dropout=cfg['dropout'],
        arch=arch,
        pretrained=cfg['pretrained'],
        stats=stats,
        **cfg['weights'],
    )


def finite(**ts):
    for k, t in ts.items():
        assert torch.isfinite(torch.as_tensor(t).float()).all(), f'{k} is not finite'


def shaped(**ts):
    for k, (t, s) in ts.items():
        assert tuple(t.shape) == tuple(s), f'{k} is {tuple(t.shape)}, not {tuple(s)}'


def steps(cfg):
    "One optimizer step in each phase, by hand"
    x, (y, loss) = images(cfg, cfg['batch']), targets(cfg, cfg['batch'])
    m = AAE(
        cfg['size'],
        cfg['channels'],
        classes=cfg['outs'],
        loss_func=loss,
        task='pictures' if cfg['task'] == 'other name' else None,
        **options(cfg),
    )
    if y is None or cfg['task'] in ('mask', 'box', 'other', 'nan') or cfg['loss'] >= 10:
        y, m.pred_loss = (
            TensorCategory(torch.arange(len(x)) % m.classes),
            CrossEntropyLossFlat(),
        )  # those are the learner's to check
    dtype = {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(cfg['precision'])
    opt, scaler = torch.optim.Adam(m.parameters(), 1e-3), torch.amp.GradScaler('cpu', enabled=dtype is torch.float16)
    for phase, gen in (
        ('ae', True),
        ('classif', True),
        ('aae', False),
        ('aae', True),
    ):  # the first refuses what is no number in [0, 1]; the adversarial losses don't look at pixels
        m.train()
        m.gen_train = gen
        with torch.autocast('cpu', dtype or torch.bfloat16, enabled=dtype is not None):
            out = m(x)
        res = getattr(m, f'{phase}_loss_func')(out, y)
        opt.zero_grad()
        scaler.scale(res).backward()
        scaler.step(opt)
        scaler.update()
        finite(loss=res, **m.loss_parts, **{k: p for k, p in m.named_parameters()})
        shaped(
            logits=(out, (len(x), m.classes)),
            z=(m.z, (len(x), m.encoding_dims)),
            gan_fake=(m.gan_fake, (len(x), 1)),
            gan_real=(m.gan_real, (len(x), 1)),
            picture=(m.decoder_output, x.shape),
            loss=(res, ()),
        )
    m.eval()
    with torch.no_grad():
        finite(evaluated=m(x), picture=m.decoder_output, drawn=m.decode(m.z))


def fits(cfg):
    "`fit_phases` on one batch"
    n, nv = cfg['batch'], 3
    (x, (y, loss)), xv = (images(cfg, n), targets(cfg, n)), images(cfg, nv)
    yv = None if y is None else type(y)(targets(cfg, nv)[0])
    rows = lambda x, y: list(zip(x, y)) if y is not None else [(o,) for o in x]
    dls = DataLoaders(DataLoader(rows(x, y), bs=n), DataLoader(rows(xv, yv), bs=nv))
    opts = options(cfg)
    opts.pop('stats')
    learn = aae_learner(
        dls, n_out=cfg['outs'], loss_func=loss, task='pictures' if cfg['task'] == 'other name' else None, **opts
    )
    if cfg['precision'] != 'fp32':
        getattr(learn, f"to_{cfg['precision']}")()
    with learn.no_bar(), learn.no_logging():
        done = learn.fit_phases(1, 1, 1, save=False)
        preds = learn.get_preds()[0]
    m = learn.aae
    assert list(done) == list(phases), list(done)
    finite(
        losses=learn.recorder.losses,
        preds=preds,
        **{f'{p}: {k}': v for p, r in done.items() for k, v in r['metrics'].items()},
        **dict(m.named_parameters()),
    )
    shaped(
        preds=(preds, (nv, m.classes)), z=(m.encode(xv), (nv, m.encoding_dims)), picture=(m.reconstruct(xv), xv.shape)
    )


def main(n=520, start=0):
    table, ends, faults = Table('fuzz'), Counter(), {}
    torch.set_num_threads(1)

    @seed(start)
    @settings(
        max_examples=n, deadline=None, database=None, phases=[Stage.generate], suppress_health_check=list(HealthCheck)
    )
    @given(configs())
    def run(cfg):
        set_seed(cfg['seed'])
        kind = 'aae_learner' if cfg['learner'] else 'AAE'
        try:
            (fits if cfg['learner'] else steps)(cfg)
        except Exception as e:
            pattern = is_documented(e)
            ends[kind, 'refused' if pattern else 'FAULT'] += 1
            if pattern:
                ends[pattern] += 1
            else:
                faults.setdefault((kind, type(e).__name__, re.sub(r'[\d.]+', 'N', str(e))[:100]), []).append((cfg, e))
        else:
            ends[kind, 'trained'] += 1

    run()
    total = lambda what: sum(ends[k, what] for k in ('AAE', 'aae_learner'))
    for k in ('AAE', 'aae_learner'):
        for what in ('trained', 'refused', 'FAULT'):
            table.row(
                f'{k}: {what}',
                ends[k, what],
                note={
                    'trained': 'finite and well shaped',
                    'refused': 'by a documented error',
                    'FAULT': 'another exception',
                }[what],
            )
    table.row('examples', total('trained') + total('refused') + total('FAULT'), least=500)
    table.row('share trained', total('trained') / max(1, n), least=0.4, note='else the refusals would hide the rest')
    table.row('documented errors met', sum(p in ends for _, p in documented), least=20, note=f'of {len(documented)}')
    table.row('another exception', total('FAULT'), most=0)
    for p in sorted((p for _, p in documented), key=lambda p: -ends[p]):
        table.say(f'{ends[p]:6} {p}')
    for (kind, t, msg), found in faults.items():
        cfg, e = min(found, key=lambda o: len(str(o[0])))
        table.say(f'--- {len(found)} times, {kind}: {t}: {str(e)[:300]}\n    {cfg}')
        print(''.join(traceback.format_tb(e.__traceback__)[-3:]), flush=True)
    table.end()


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))

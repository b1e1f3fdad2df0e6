"""One training step per phase over a pairwise grid of configurations: `python bench/grid.py`

Every pair of values of two factors meets in at least one run. A run is one epoch of one batch in each phase,
through the `Learner`; it has to end with finite losses and metrics and a picture of the image's shape.
"""

import itertools, random, traceback, warnings

import torch
from torch import nn

warnings.filterwarnings('ignore')
from _table import Table
from fastai.vision.all import (
    DataLoaders,
    CrossEntropyLossFlat,
    BCEWithLogitsLossFlat,
    MSELossFlat,
    resnet18,
    resnet34,
    resnet50,
    noop,
)
from xaaenet.learner import aae_learner


class Own(nn.Module):
    "An encoder that isn't `nn.Sequential`"

    def __init__(self, n_in):
        super().__init__()
        self.a, self.b, self.c, self.pool = *(
            nn.Conv2d(i, o, 3, padding=1) for i, o in ((n_in, 8), (8, 16), (16, 32))
        ), nn.MaxPool2d(2)

    def forward(self, x):
        for conv in (self.a, self.b, self.c):
            x = self.pool(conv(x).relu())
        return x


factors = dict(
    size=[32, 64, 96, 160, 161, 224, (192, 320)],
    channels=[1, 3, 4, 12],
    arch=[resnet18, resnet34, resnet50, 'convnext_atto', 'efficientnet_b0', Own],
    target=['two', 'ten', 'labels', 'score'],
    skip_dropout=[1, 0.5, 0],
    bf16=[False, True],
)
losses = dict(
    two=(2, CrossEntropyLossFlat()),
    ten=(10, CrossEntropyLossFlat()),
    labels=(3, BCEWithLogitsLossFlat()),
    score=(1, MSELossFlat()),
)


def pairwise(factors, seed=0):
    "Greedy covering array: each run takes the best of 50 random rows"
    rng, names, pick = (
        random.Random(seed),
        list(factors),
        lambda r: {(a, str(r[a]), b, str(r[b])) for a, b in itertools.combinations(factors, 2)},
    )
    todo = {
        (a, str(x), b, str(y)) for a, b in itertools.combinations(names, 2) for x in factors[a] for y in factors[b]
    }
    while todo:
        rows = [{n: rng.choice(v) for n, v in factors.items()} for _ in range(50)]
        best = max(rows, key=lambda r: len(pick(r) & todo))
        if not pick(best) & todo:  # rare pairs are set by hand
            a, x, b, y = sorted(todo)[0]
            best.update(
                {a: next(v for v in factors[a] if str(v) == x), b: next(v for v in factors[b] if str(v) == y)}
            )
        todo -= pick(best)
        yield best


def run(size, channels, arch, target, skip_dropout, bf16):
    h, w = (size, size) if isinstance(size, int) else size
    n_out, loss = losses[target]
    y = dict(
        two=lambda i: torch.tensor(i % 2),
        ten=lambda i: torch.tensor(i % 10),
        labels=lambda i: torch.tensor([i % 2, 1, 0.0]),
        score=lambda i: torch.tensor([i / 4.0]),
    )[target]
    items = [(torch.rand(channels, h, w), y(i)) for i in range(4)]
    learn = aae_learner(
        DataLoaders.from_dsets(items, items, bs=4, num_workers=0),
        arch(channels) if arch is Own else arch,
        False,
        n_out=n_out,
        loss_func=loss,
        encoding_dims=8,
        skip_dropout=skip_dropout,
    )
    if bf16:
        learn.to_bf16()
    learn.logger = noop
    with learn.no_bar():
        records = learn.fit_phases(1, 1, 1, save=False)
    values = [v for r in records.values() for v in r['metrics'].values()]
    assert len(records) == 3 and torch.tensor(values).isfinite().all(), values
    assert learn.model.reconstruct(items[0][0][None]).shape == (1, channels, h, w)


table = Table('grid')
failed = n = 0
for n, row in enumerate(pairwise(factors), 1):
    text = ', '.join(f'{k} {getattr(v, "__name__", v)}' for k, v in row.items())
    try:
        run(**row)
    except Exception as e:
        failed += 1
        table.say(f'FAILED {text}: {type(e).__name__}: {str(e)[:200]}')
        traceback.print_exc()
table.row('configurations run', n)
table.row('configurations that failed', failed, most=0)
table.end()

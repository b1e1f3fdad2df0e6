"""How do time and memory grow with the rows?

`python bench/growth.py [MOST]` (a million rows by default: about five minutes on two cores; 100,000 in one)

Latents of 128 dimensions by a small encoder at 32 px, written to memory-mapped files; then maps, prototypes, rows
near a boundary and the performance table from those files. The report paints every row, and is measured to 16,000.
Images come from a bank of 1,000 random ones, so that the data cost no memory. Memory is what the process holds of
its own (RssAnon: pages of mapped files can be dropped at any time) beyond what it held before, sampled every 10 ms.
"Growth" is the time (or memory) of the largest over that of a tenth of it: 10 is linear.
"""

import gc, sys, tempfile, threading, time, warnings
from pathlib import Path

warnings.filterwarnings('ignore')
import torch
from torch import nn
from xaaenet.all import *
from _table import Table


class Bank(torch.utils.data.Dataset):
    "`n` images, of which a thousand differ"

    x, y = torch.rand(1000, 1, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(1000) % 10

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.x[i % 1000], self.y[i % 1000]

    def __getitems__(self, idxs):
        j = torch.tensor(idxs) % 1000
        return [(self.x[j], self.y[j])]  # a batch at once


def loader(n, bs=1000):
    return torch.utils.data.DataLoader(
        Bank(n), bs, collate_fn=lambda b: b[0] if b[0][0].dim() == 4 else torch.utils.data.default_collate(b)
    )


def anon():
    return next(int(l.split()[1]) / 1024 for l in open('/proc/self/status') if l.startswith('RssAnon'))


def measured(f):
    "Seconds and MiB of `f`"
    gc.collect()
    before, peak, done = anon(), [0.0], threading.Event()

    def watch():
        while not done.wait(0.01):
            peak[0] = max(peak[0], anon())

    t = threading.Thread(target=watch)
    t.start()
    start = time.perf_counter()
    res = f()
    s = time.perf_counter() - start
    done.set()
    t.join()
    return res, s, max(0.0, peak[0] - before)


def main(most):
    table = Table('growth')
    set_seed(0)
    conv = lambda i, o: ConvLayer(i, o, stride=2)
    small = DataLoaders(loader(2000, 64), loader(1000, 64))
    learn = aae_learner(
        small, nn.Sequential(conv(1, 8), conv(8, 16), conv(16, 32)), n_out=10, loss_func=CrossEntropyLossFlat()
    )
    with learn.no_bar(), learn.no_logging():
        learn.fit_classifier(1, save=False)
    ref, seen = learn.reference(), {}
    sizes = [n for n in (1000, 10_000, 100_000, 1_000_000) if n <= most]

    def note(what, n, s, mb):
        seen.setdefault(what, {})[n] = s, mb
        table.say(
            f'{what:42} {n:>9,} rows  {s:8.2f} s  {1e6*s/n:8.1f} µs a row  {mb:7.0f} MiB  {1024*mb/n:7.2f} KiB a row'
        )

    with tempfile.TemporaryDirectory() as d:
        for n in sizes:
            lat, *cost = measured(lambda: learn.latents(dl=loader(n), path=Path(d) / str(n)))
            note('latents, memory-mapped', n, *cost)
            for what, f in {
                'map, PCA': lambda: plt.close(lat.plot_map().figure),
                'map, t-SNE of a sample': lambda: plt.close(lat.plot_map(method='tsne', max_n=1000).figure),
                'prototypes': lambda: lat.typical(ref),
                'nearest to a boundary': lambda: learn.ambiguous(lat),
                'pairs across a boundary': lambda: lat.across(ref),
                'performance with intervals': lambda: lat.metrics(n_boot=100),
            }.items():
                note(what, n, *measured(f)[1:])
            del lat
        for n in [o for o in (400, 1600, 4000, 16_000) if o <= most]:
            note('report', n, *measured(lambda: report(learn, f'{d}/r.html', loader(n, 500), maps=('pca',)))[1:])
    table.say('--- growth from a tenth to the largest')
    for what, rows in seen.items():
        (a, (sa, ma)), (b, (sb, mb)) = [(n, rows[n]) for n in rows if n == max(rows) // 10 or n == max(rows)]
        table.row(f'{what}: time, {a:,} to {b:,} rows', sb / sa, most=13)
        table.row(f'{what}: memory', (mb + 20) / (ma + 20), most=13, note='20 MiB of noise added to both')
    table.row(
        'ten million rows, latents: hours, extrapolated',
        seen['latents, memory-mapped'][max(sizes)][0] / max(sizes) * 1e7 / 3600,
    )
    table.end()


if __name__ == '__main__':
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

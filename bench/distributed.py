"""Do two processes train what one does?

`python bench/distributed.py [SEEDS]` (three seeds by default; about six minutes on two cores; needs `pip install
accelerate`)

Two processes on CPU, over gloo, started by `torchrun`. Gradients: the first step of each phase, with local batch
norm, against one process that accumulates the same two shards with the same random draws, each from the same
running statistics. Metrics: the same training by one and by two processes, of the same batch in all, over seeds.
Latents: each row once and in order. Resume: both processes are killed with SIGKILL in the second phase.
"""

import json, os, signal, statistics, subprocess, sys, tempfile, time, warnings
from pathlib import Path

import torch

warnings.filterwarnings('ignore')
from xaaenet.all import *
from xaaenet.demo import *
import copy  # fastcore has a function of this name

rank, world = rank_distrib(), max(1, num_distrib())
train, valid, test = split_items(demo_items()[0])
torch.set_num_threads(1)

sides = {
    'adversarial, discriminator': ('adversarial', False),
    'adversarial, generator': ('adversarial', True),
    'autoencoder': ('autoencoder', True),
    'classifier': ('classifier', True),
}


def learner(n=None, bs=64, seed=0, path=None, **kwargs):
    set_seed(seed, reproducible=True)
    dls = DataLoaders(*(dl.new(num_workers=0) for dl in demo_dls(train[:n], valid, bs=bs).loaders))
    learn = aae_learner(dls, demo_encoder(), encoding_dims=16, metrics=accuracy, path=path, **kwargs)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn


class FirstStep(Callback):
    "Draw as one shard does, and keep the batch and the gradients that the optimizer sees"

    order, run_valid = 90, False  # before `Denoise`

    def __init__(self, gen):
        self.gen = gen

    def before_fit(self):
        self.steps, opt, plain = [], self.learn.opt, self.learn.opt.step
        self.state = {k: v.clone() for k, v in self.aae.state_dict().items()}

        def step():
            if len(self.steps) < 2:
                self.steps.append({n: p.grad.clone() for n, p in self.aae.named_parameters() if p.grad is not None})
            plain()

        opt.step = step

    def before_batch(self):
        if self.train_iter:
            raise CancelFitException
        torch.manual_seed(100 + rank)
        self.aae.gen_train = self.gen
        self.batch = [o.clone() for o in (*self.xb, *self.yb)]

    @property
    def aae(self):
        return self.learn.aae


def shard_gradients(model, phase, gen, batches):
    "The gradients of one process that accumulates the shards: of the step, and of the discriminator's after it"
    p, model.gen_train, start = phases[phase], gen, copy.deepcopy(model.state_dict())
    model.decoding = p.decoding
    model.train()
    step, after = {}, {}

    def keep(into):
        for n, o in model.named_parameters():
            if o.grad is not None:
                into[n] = into.get(n, 0) + o.grad / len(batches)
            o.grad = None

    for r, (x, y) in enumerate(batches):
        torch.manual_seed(100 + r)
        model.load_state_dict(start)
        out = model(*((corrupt(x, 0.1, 0.25), x) if phase == 'autoencoder' else (x,)))
        loss_of_phase = getattr(model, p.loss)(out, y)
        z = model.z.detach()
        loss_of_phase.backward()
        keep(step)
        if phase != 'adversarial':
            model.disc_loss_func(z).backward()
            keep(after)
    return [step] + ([after] if phase != 'adversarial' else [])


def gradients(folder):
    for name, (phase, gen) in sides.items():
        learn, first = learner(256, bs=32), FirstStep(gen)
        with learn.distrib_ctx(sync_bn=False):
            getattr(learn, f'fit_{phase}')(1, save=False, cbs=first)
        torch.save(dict(steps=first.steps, batch=first.batch, state=first.state), folder / f'{name}{rank}.pt')


def latent_rows(folder):
    learn = learner(256)
    with learn.distrib_ctx():
        for n in (1, 2, 63, 64, 65, 128, 129):
            dl = learn.dls.test_dl(test[:n], with_labels=True)
            lat, own = learn.latents(dl=dl), learn._latents(dl)
            assert (
                len(lat) == n and torch.allclose(lat.z, own.z, atol=1e-5) and torch.equal(lat.targets, own.targets)
            ), n
            kept = learn.latents(dl=dl, path=folder / f'lat{n}')
            assert torch.equal(kept.z, lat.z) and list(kept.items) == list(lat.items), n
        preds = learn.get_preds(dl=learn.dls.test_dl(test[:65], with_labels=True))
        assert len(preds[0]) == 65 and torch.allclose(preds[0], lat.probs[:65], atol=1e-5)
    (folder / f'latents{rank}').write_text('every row once and in order')


def train_all(folder, seed):
    learn, t = learner(bs=64 // world, seed=seed, path=folder / f'{world}-{seed}'), time.time()
    with learn.distrib_ctx():
        records = learn.fit_phases(1, 2, 4, lr=3e-3, resume=True, every=10)
    seconds = time.time() - t
    acc = (
        (
            learn.get_preds(dl=learn.dls.test_dl(test, with_labels=True))[0].argmax(1)
            == learn.latents(dl=learn.dls.test_dl(test, with_labels=True)).targets
        )
        .float()
        .mean()
        .item()
    )
    weights = torch.cat([p.flatten() for p in learn.model.state_dict().values()]).double().sum().item()
    (folder / f'train{world}-{seed}-{rank}.json').write_text(
        json.dumps(
            dict(
                acc=acc,
                seconds=seconds,
                weights=weights,
                **{k: v for k, v in records['classifier']['metrics'].items()},
            )
        )
    )


class Steps(Callback):
    "Seconds of each training step, without the first four"

    run_valid = False

    def before_fit(self):
        self.seconds = []

    def before_batch(self):
        self.start = time.perf_counter()

    def after_batch(self):
        self.seconds.append(time.perf_counter() - self.start)


def scale(folder, px, bs):
    "Images a second of a ResNet18 in the autoencoder phase, of all processes together"
    items = [
        (torch.randint(256, (px, px, 3), dtype=torch.uint8).numpy(), 'ab'[i % 2]) for i in range(world * bs * 12 + bs)
    ]
    set_seed(0)
    dls = demo_dls(items[:-bs], items[-bs:], PILImage, size=px, bs=bs)
    learn, steps = aae_learner(dls, resnet18, pretrained=False, path=folder / f'scale{world}'), Steps()
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    with learn.distrib_ctx():
        learn.fit_autoencoder(1, save=False, cbs=steps)
    if not rank:
        (folder / f'scale{world}.json').write_text(json.dumps(world * bs / statistics.median(steps.seconds[4:])))


def launch(*args, wait=True):
    "Run this file in two processes"
    cmd = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node',
        '2',
        __file__,
        *map(str, args),
    ]  # `accelerate launch` needs MPI to start several processes on CPU
    p = subprocess.Popen(
        cmd,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore', 'ACCELERATE_USE_CPU': 'true'},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    if not wait:
        return p
    try:
        _, err = p.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        raise
    if p.returncode:
        sys.exit(err[-4000:])


def main(seeds):
    from _table import Table

    table = Table('distributed')
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        launch('gradients', d)
        for name, (phase, gen) in sides.items():
            a, b = (torch.load(d / f'{name}{r}.pt', weights_only=False) for r in (0, 1))
            learn = learner(256, bs=32)
            learn.model.load_state_dict(a['state'])
            want = shard_gradients(learn.model, phase, gen, [a['batch'], b['batch']])
            assert not torch.equal(a['batch'][0], b['batch'][0])
            for what, got, w in zip(("the step", "the discriminator's step after it"), a['steps'], want):
                assert set(got) == set(w), (phase, set(got) ^ set(w))
                top = max(v.abs().max() for v in w.values()).item()
                table.row(
                    f'{name}: {what}, difference over largest',
                    max((got[k] - w[k]).abs().max().item() for k in w) / top,
                    most=1e-5,
                    note=f'{len(w)} tensors, largest gradient {top:.2g}',
                )
            table.row(
                f'{name}: the same in both processes',
                max((a['steps'][0][k] - b['steps'][0][k]).abs().max().item() for k in a['steps'][0]),
                most=0,
            )
        launch('latents', d)
        table.row(
            'latents of 1, 2, 63, 64, 65, 128, 129 rows: once and in order',
            sum((d / f'latents{r}').exists() for r in (0, 1)),
            least=2,
            note='processes that checked',
        )
        res = {}
        for seed in range(seeds):
            train_all(d, seed)
            launch('train', d, seed)
            res[seed] = {
                k: json.loads((d / f).read_text())
                for k, f in (
                    ('one', f'train1-{seed}-0.json'),
                    ('first', f'train2-{seed}-0.json'),
                    ('second', f'train2-{seed}-1.json'),
                )
            }
        for key, name in (('acc', 'accuracy'), ('rec', 'reconstruction loss'), ('swd', 'latent distance')):
            one, two = ([r[k][key] for r in res.values()] for k in ('one', 'first'))
            table.row(f'{name}, one process (mean over seeds)', statistics.mean(one))
            table.row(f'{name}, two processes', statistics.mean(two))
            table.row(
                f'  difference of the means over their standard error',
                abs(statistics.mean(one) - statistics.mean(two))
                / max(1e-9, (statistics.variance(one) / seeds + statistics.variance(two) / seeds) ** 0.5),
                most=4.3,
                note='95 % of t with 2 degrees of freedom',
            )
        table.row(
            'weights and metrics equal in both processes',
            float(all(r['first'] == {**r['second'], 'seconds': r['first']['seconds']} for r in res.values())),
            least=1,
        )
        table.row(
            'speed of two processes over one, one thread each',
            statistics.median(r['one']['seconds'] / r['first']['seconds'] for r in res.values()),
            note='a thin encoder on 32 px: much to send for little to compute',
        )
        for px, bs in ((64, 32), (128, 32)):
            scale(d, px, bs)
            launch('scale', d, px, bs)
            one, two = (json.loads((d / f'scale{w}.json').read_text()) for w in (1, 2))
            table.row(
                f'ResNet18, {px} px, {bs} images a process: two over one',
                two / one,
                note=f'{two:.1f} against {one:.1f} images a second, autoencoder phase, one thread each',
            )
        killed = d / 'killed'
        killed.mkdir()
        p, folder = launch('train', killed, 0, wait=False), killed / '2-0' / 'models'
        while not (folder / 'aae-adversarial.safetensors').exists():
            time.sleep(0.1)
        time.sleep(5)
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
        left = sorted(f.name for f in folder.glob('*.safetensors'))
        launch('train', killed, 0)
        got = [json.loads((killed / f'train2-0-{r}.json').read_text()) for r in (0, 1)]
        table.row('a killed pair resumes: accuracy', got[0]['acc'], least=0.9, note=f"found {', '.join(left)}")
        table.row('  equal in both processes', float(got[0]['weights'] == got[1]['weights']), least=1)
        table.row(
            '  equal to the pair that was never killed',
            float(got[0]['weights'] == res[0]['first']['weights']),
            least=1,
            note=f"by the sum of all weights and buffers, {got[0]['weights']!r}",
        )
    table.end()


if __name__ == '__main__':
    args = sys.argv[1:]
    roles = dict(
        gradients=gradients,
        latents=latent_rows,
        train=lambda d, seed: train_all(d, int(seed)),
        scale=lambda d, px, bs: scale(d, int(px), int(bs)),
    )
    if args and args[0] in roles:
        roles[args[0]](Path(args[1]), *args[2:])
    else:
        main(int(args[0]) if args else 3)

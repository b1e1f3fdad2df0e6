"""What do training and inference cost?

`python bench/speed.py [PART ...]` (parts: predict, waits, latents, epochs, steps, convolutions, bf16, a table each;
all by default, about 50 minutes on two cores)

Against tmw-xai where it is installed (`pip install --no-deps tmw-xai pytorch-msssim`), against fastai's
`unet_learner` step as the floor for a network of this shape, and against the convolutions alone: each one's forward
and backward at its real shape. Ratios are of runs interleaved in one process, median and spread. ResNet34, no
pretrained weights, random images; on CUDA also bfloat16, channels_last and torch.compile at 256 px, batch 64.
Eleven cues are in bench/cues.py. A step is the second of two in a row, ours with the memory of freed tensors kept
as `fit` keeps it on a CPU (`keep_memory`), and so are the convolutions beside it; peers run as they come, and with
it too, in rows of their own. Peak memory is what the process grows by from before a step to its highest, the median
of three in turn: it holds the convolutions' scratch memory too, and scatters with what the allocator has kept. The
peak of tensors alone, as torch counts them, stands beside it.
"""

import io, statistics, sys, tempfile, time, traceback, warnings
from collections import Counter
from contextlib import nullcontext, redirect_stdout

warnings.filterwarnings('ignore')
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet34
from xaaenet.all import *
from _table import Table

try:
    from tell_me_why import model_aae as tmw, training as tmw_training
except ImportError:
    tmw = None

cuda = torch.cuda.is_available()
device = torch.device('cuda' if cuda else 'cpu')
if tmw:
    tmw.resnet34 = lambda weights=None: resnet34()  # no download
bs, size = (64, 256) if cuda else (8, 176)


def sync():
    if cuda:
        torch.cuda.synchronize()


def seconds(f):
    sync()
    start = time.perf_counter()
    f()
    sync()
    return time.perf_counter() - start


def interleaved(fs, n=5):
    "Seconds of each of `fs`, `n` times in turn after one round of warming up"
    for f in fs.values():
        f()
    rounds = [{k: seconds(f) for k, f in fs.items()} for _ in range(n)]
    return {k: [r[k] for r in rounds] for k in fs}


def step_twice(k, f):
    "`f` twice in a row, and the seconds of the second; what is called `our ...` or `... kept` with memory kept"
    with keep_memory() if not cuda and (k.startswith('our') or k.endswith('kept')) else nullcontext():
        f()
        return seconds(f)


def steady(fs, n=5):
    "Seconds of a step of each of `fs`, `n` times in turn after one round of warming up"
    for k, f in fs.items():
        step_twice(k, f)
    rounds = [{k: step_twice(k, f) for k, f in fs.items()} for _ in range(n)]
    return {k: [r[k] for r in rounds] for k in fs}


def ratio(a, b):
    "Median of the rounds' ratios b/a, and their spread"
    r = [y / x for x, y in zip(a, b)]
    seconds = f'{statistics.median(a):.3g} s against {statistics.median(b):.3g} s'
    return statistics.median(r), f'{min(r):.2f} to {max(r):.2f} in {len(r)} rounds, {seconds}'


def grown(f):
    "MiB that `f` needs at its peak beyond what was there before"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        f()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    status = lambda k: next(int(l.split()[1]) / 1024 for l in open('/proc/self/status') if l.startswith(k))
    import ctypes, gc

    gc.collect()
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    open('/proc/self/clear_refs', 'w').write('5')
    before = status('VmRSS')
    f()
    return status('VmHWM') - before


def tensors(f):
    """MiB of tensors that `f` holds at its peak, as torch's own allocator counts them.

    The same in each run, whatever pages the process had before; scratch memory of the convolutions isn't a tensor."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as p:
        f()
    held = peak = 0
    for e in sorted(
        (e for e in p.profiler.kineto_results.events() if e.name() == '[memory]'), key=lambda e: e.start_ns()
    ):
        held += e.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def images(px, n, seed=0):
    rng = np.random.RandomState(seed)
    return [(rng.randint(256, size=(px, px, 3), dtype=np.uint8), i % 2) for i in range(n)]


def data(px, n, bs, seed=0):
    "Loaders of `n` random images that are in memory, two classes"
    items = images(px, n, seed)
    block = DataBlock(
        (ImageBlock, CategoryBlock(vocab=[0, 1])),
        getters=[ItemGetter(0), ItemGetter(1)],
        splitter=IndexSplitter(range(n - n // 4, n)),
    )
    return block.dataloaders(items, bs=bs, num_workers=0, device=device)


# steps


def ours(px, **kwargs):
    torch.manual_seed(0)
    return AAE(px, pretrained=False, **kwargs).to(device).train()


def step_of(model, loss, x, y, opt, amp=False):
    "Forward, loss, backward, optimizer"

    def step():
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
            out = model(x)
            l = loss(out, y)
        l.backward()
        opt.step()
        for p in model.parameters():
            p.grad = None

    return step


def our_steps(px, x, y, amp=False):
    """A step of each phase as the learner takes it, the discriminator's own included.

    `frozen` is the default of a pretrained encoder."""
    model = ours(px)
    opt = FusedAdam([list(model.parameters())], lr=1e-4)

    def adversarial(gen, frozen=False):
        def step():
            model.gen_train, model.decoding = gen, False
            for p in model.encoder.parameters():
                p.requires_grad_(not frozen)
            step_of(model, model.aae_loss_func, x, y, opt, amp)()
            for p in model.encoder.parameters():
                p.requires_grad_(True)

        return step

    def reconstructing(loss, cons=0.0, swap=0.0, noise=False):
        def step():
            model.gen_train, model.decoding, model.cons_weight, model.swap_weight = True, True, cons, swap
            model_in = (corrupt(x), x) if noise else (x,)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
                out = model(*model_in)
                l = getattr(model, loss)(out, y)
            z = model.z.detach()
            l.backward()
            opt.step()
            for p in model.parameters():
                p.grad = None
            model.disc_loss_func(z).backward()
            opt.step()
            for p in model.parameters():
                p.grad = None

        return step

    both = lambda *fs: lambda: [f() for f in fs]
    return (
        dict(
            adversarial=both(adversarial(True), adversarial(False)),
            frozen=both(adversarial(True, True), adversarial(False)),
            autoencoder=reconstructing('ae_loss_func', noise=True),
            classifier=reconstructing('classif_loss_func'),
            consistent=reconstructing('classif_loss_func', 0.3),
            swaps=reconstructing('classif_loss_func', swap=1.0),
        ),
        model,
    )


def tmw_steps(px, x, y, amp=False):
    torch.manual_seed(0)
    with redirect_stdout(io.StringIO()):
        model = tmw.AAE(px).to(device).train()
    opt = Adam([list(model.parameters())], lr=1e-4)
    x = TensorImage(x)  # as fastai's loaders give it

    def adversarial(gen):
        switch = tmw_training.UnfreezeFcCritAdaptative()
        switch.learn = type('L', (), dict(model=model))()

        def step():
            switch._set_gen_train(gen)
            step_of(model, model.aae_loss_func, x, y, opt, amp)()

        return step

    def whole(loss, noise=False):
        tfms = [tmw_training.AddGaussianNoise(), tmw_training.RandomMasking(0.2, 16)] if noise else []

        def step():
            for p in model.parameters():
                p.requires_grad_(True)
            model.gen_train, bad = True, x.clone()
            for t in tfms:
                bad = t(bad)
            step_of(model, loss, bad, y, opt, amp)()

        return step

    ae = lambda out, y: model.denoising_ae_loss_func(x, 0.4, 0.6, out, y)
    classif = lambda out, y: model.classif_loss_func(out, y, 0.4, 0.599, 0.001)
    return dict(
        adversarial=lambda: [adversarial(g)() for g in (True, False)],
        autoencoder=whole(ae, True),
        classifier=whole(classif),
    )


def fastai_step(px, x, amp=False):
    "fastai's own U-Net of the same encoder, L1 loss"
    torch.manual_seed(0)
    from fastai.vision.models.unet import DynamicUnet as Unet

    model = Unet(create_body(resnet34(), pretrained=False), 3, (px, px)).to(device).train()
    return step_of(
        model, lambda out, y: F.l1_loss(out, x), TensorImage(x), None, Adam([list(model.parameters())], lr=1e-4), amp
    )


class Convolutions(torch.utils._python_dispatch.TorchDispatchMode):
    "Note every convolution, forward and backward, with its shapes, formats and which gradients it gives"

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default):
            self.calls.append((func, [like(o) for o in args]))
        return func(*args, **(kwargs or {}))


def like(o):
    return (
        ('tensor', o.shape, o.dtype, o.is_contiguous(memory_format=torch.channels_last))
        if isinstance(o, torch.Tensor)
        else o
    )


def convolutions(step):
    "A function that runs the convolutions of `step` alone"
    with Convolutions() as m:
        step()
    made = {}

    def tensor(o):
        if not (isinstance(o, tuple) and o and o[0] == 'tensor'):
            return o
        if o not in made:
            t = torch.rand(o[1], device=device).to(o[2])
            made[o] = t.contiguous(memory_format=torch.channels_last) if o[3] and t.dim() == 4 else t
        return made[o]

    calls = [(f, [tensor(a) for a in args]) for f, args in m.calls]

    def run():
        for f, args in calls:
            f(*args)

    return run, len(calls)


def steps(table):
    names = dict(
        adversarial=('adversarial, mean of both sides', 3.5),
        autoencoder=('autoencoder', 1.15),
        classifier=('classifier', 1.15),
    )
    for px, b in ((64, bs), (size, bs)) + (() if cuda else ((256, 4),)):
        torch.manual_seed(0)
        x, y = torch.rand(b, 3, px, px, device=device), torch.randint(2, (b,), device=device)
        table.say(f'--- a step of {b} images of {px} px')
        mine, model = our_steps(px, x, y)
        fs = {f'our {k}': f for k, f in mine.items()} | {"fastai's U-Net": fastai_step(px, x)}
        peers = tmw_steps(px, x, y) if tmw and px > 160 else {}
        fs |= {f'tmw {k}': f for k, f in peers.items()}
        all_fs = fs | ({f'{k}, kept': f for k, f in fs.items() if k.startswith('tmw')} if not cuda else {})
        short = {
            k: f for k, f in all_fs.items() if 'adversarial' in k or 'frozen' in k
        }  # they scatter most, and cost least
        t = steady(short, 15) | steady({k: f for k, f in all_fs.items() if k not in short}, 5)
        for k, v in t.items():
            table.row(f'{k}, s', statistics.median(v) / (2 if 'adversarial' in k or 'frozen' in k else 1))
        bound = px == size
        for k, (label, least) in names.items() if peers else ():
            r, note = ratio(t[f'our {k}'], t[f'tmw {k}'])
            table.row(f'tmw-xai over ours: {label}', r, least=least if bound else None, note=note)
            if not cuda:
                r, note = ratio(t[f'our {k}'], t[f'tmw {k}, kept'])
                table.row(f'  if tmw-xai kept its memory too', r, note=note)
        if peers:
            r, note = ratio(t['our frozen'], t['tmw adversarial'])
            table.row('tmw-xai over ours: adversarial, encoder at rate 0 (the default if pretrained)', r, note=note)
            r, note = ratio(t['our swaps'], t['tmw classifier'])
            table.row('tmw-xai over ours: classifier with its swaps (the default)', r, note=note)
            three = [[sum(v) for v in zip(*(t[f'{w} {k}'] for k in names))] for w in ('our', 'tmw')]
            r, note = ratio(*three)
            table.row('tmw-xai over ours: the three phases, a step each (two adversarial)', r, note=note)
        r, note = ratio(t['our autoencoder'], t["fastai's U-Net"])
        table.row("fastai's U-Net step over our autoencoder step", r, note=note)
        with FlopCounterMode(display=False) as fc:
            mine['autoencoder']()
        table.row('autoencoder step, GFLOP', fc.get_total_flops() / 1e9)
        table.row('  GFLOP/s', fc.get_total_flops() / 1e9 / statistics.median(t['our autoencoder']))
        if bound:
            rounds = [{k: grown(partial(step_twice, k, f)) for k, f in fs.items()} for _ in range(3)]
            peaks = {k: statistics.median(r[k] for r in rounds) for k in fs}
            held = {k: rounds[0][k] if cuda else tensors(f) for k, f in fs.items()}
            for k in fs:
                each = [r[k] for r in rounds]
                table.row(
                    f'peak memory, {k}, MiB',
                    peaks[k],
                    note=f'{min(each):.0f} to {max(each):.0f} in 3 rounds; {held[k]:.0f} of tensors',
                )
            for k in names if peers else ():
                table.row(
                    f'peak memory, ours over tmw-xai: {k}',
                    peaks[f'our {k}'] / peaks[f'tmw {k}'],
                    most=1,
                    note=f"of tensors alone {held[f'our {k}']/held[f'tmw {k}']:.2f}",
                )
    if cuda:
        precision(table)


def alone(table):
    "Steps over their own convolutions, and the optimizer over fastai's"
    torch.manual_seed(0)
    x, y = torch.rand(bs, 3, size, size, device=device), torch.randint(2, (bs,), device=device)
    what = f'a step of {bs} images of {size} px over its convolutions alone'
    table.say(f'--- {what}, forward and backward, at their real shapes')
    mine, model = our_steps(size, x, y)
    for k in ('adversarial', 'autoencoder', 'classifier', 'consistent', 'swaps'):
        conv, n = convolutions(mine[k])
        v = steady({'convolutions, kept': conv, 'our step': mine[k]}, 5)
        r, note = ratio(v['convolutions, kept'], v['our step'])
        table.row(f'{k}: step over its {n} convolutions alone', r, most=1.25, note=note)
        del conv
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    opts = dict(our=FusedAdam([list(model.parameters())], lr=1e-4), fastai=Adam([list(model.parameters())], lr=1e-4))
    v = interleaved({k: o.step for k, o in opts.items()}, 15)
    r, note = ratio(v['our'], v['fastai'])
    table.row("the optimizer's step of all parameters: fastai's Adam over ours", r, note=note)


def precision(table):
    "bfloat16, channels_last and compiled, 256 px, batch 64"
    x, y = torch.rand(bs, 3, size, size, device=device), torch.randint(2, (bs,), device=device)
    mine, model = our_steps(size, x, y, amp=True)
    model.compile()
    fs = dict(our=mine['autoencoder']) | (
        dict(tmw=tmw_steps(size, x, y)['autoencoder'], tmw16=tmw_steps(size, x, y, True)['autoencoder'])
        if tmw
        else {}
    )
    t = interleaved(fs, 10)
    table.say(f'--- bfloat16, channels_last, torch.compile: autoencoder step of {bs} images of {size} px')
    for k, v in t.items():
        table.row(f'{k}, s', statistics.median(v))
    if tmw:
        r, note = ratio(t['our'], t['tmw'])
        table.row('tmw-xai over ours', r, least=2.5, note=note)
    conv, n = convolutions(our_steps(size, x, y, amp=True)[0]['autoencoder'])
    v = interleaved(dict(conv=conv, step=mine['autoencoder']), 10)
    r, note = ratio(v['conv'], v['step'])
    table.row(f'step over its {n} convolutions alone', r, most=1.25, note=note)
    peaks = {k: grown(f) for k, f in fs.items()}
    for k, v in peaks.items():
        table.row(f'peak memory, {k}, MiB', v)
    if tmw:
        table.row('peak memory, ours over tmw-xai', peaks['our'] / peaks['tmw'], most=1)


# waits of the host for the device


class Waits(torch.utils._python_dispatch.TorchDispatchMode):
    "Count what makes the host wait for a number of the device, by the function that asked for it"

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        number = func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == device.type
        brought = (
            isinstance(out, torch.Tensor)
            and isinstance(args[0] if args else None, torch.Tensor)
            and args[0].device.type == 'cuda'
            and out.device.type == 'cpu'
        )
        if number or brought or func is torch.ops.aten.nonzero.default:
            self.seen[
                next(
                    f.name
                    for f in reversed(traceback.extract_stack()[:-1])
                    if '/torch/' not in f.filename and 'fastcore' not in f.filename
                )
            ] += 1
        return out


known = dict(_validate_input='by the range check of MS-SSIM')


def waits(table):
    table.say(
        '--- how often the host waits for the device in a training step, through the learner; '
        'what fastai reads after it, the Recorder among it, not counted'
    )
    for phase in phases:
        learn = aae_learner(data(64, 170, 32), pretrained=False)
        learn.remove_cb(ProgressCallback)
        learn.logger = noop
        step, counted = learn._do_one_batch, Waits()

        def one_batch():
            with counted if learn.training else nullcontext():
                step()

        learn._do_one_batch = one_batch
        getattr(learn, f'fit_{phase}')(1, save=False)
        n, by = len(learn.dls.train), Counter()
        for k, v in counted.seen.items():
            by[known.get(k, k)] += v / n
        table.row(
            f'{phase}: beyond the range check',
            sum(v for k, v in by.items() if k not in known.values()),
            most=0,
            note=', '.join(f'{v:g} {k}' for k, v in by.items()),
        )


# whole phases through the learner


def epochs(table):
    # tmw-xai trains nothing but its discriminator in its first three epochs, and goes on so if they are its last:
    # an epoch each would compare with steps that don't learn
    n = 4, 1, 1
    table.say(
        f'--- {n[0]} + {n[1]} + {n[2]} epochs of the three phases, through the learner: '
        f'48 images of {size} px for training, 16 for validation, batches of {bs}'
    )

    def our_fit(swap):
        dls = data(size, 64, bs)
        learn = aae_learner(dls, pretrained=False, swap_weight=swap)
        learn.remove_cb(ProgressCallback)
        learn.logger = noop
        return lambda: learn.fit_phases(*n, save=False)

    fs = {'our': our_fit(0.0), 'our with swaps': our_fit(1.0)}
    if tmw:
        with redirect_stdout(io.StringIO()):
            model = tmw.AAE(size)
        dls, d = data(size, 64, bs), tempfile.mkdtemp()
        dls.path = Path(d)

        def fit():
            with redirect_stdout(io.StringIO()):
                tmw_training.train_xaaenet(
                    model,
                    dls,
                    epochs_adv=n[0],
                    epochs_ae=n[1],
                    epochs_classif=n[2],
                    grad_accum=bs,
                    save_tsne=False,
                    save_pls=False,
                    extract_latent=False,
                )

        fs['tmw'] = fit
    t = interleaved(fs, 2)
    for k, v in t.items():
        table.row(f'{k}, s', statistics.median(v))
    if tmw:
        r, note = ratio(t['our'], t['tmw'])
        table.row('tmw-xai over ours, the same terms of the loss', r, least=1.35, note=note)
        r, note = ratio(t['our with swaps'], t['tmw'])
        table.row('tmw-xai over ours, the default with its swaps', r, note=note)


# inference


def latents(table):
    table.say(f'--- latents of 500 images of {size} px, batches of {bs}')
    dls = data(size, 64, bs)
    learn = aae_learner(dls, pretrained=False)
    dl = dls.test_dl(images(size, 500), with_labels=True, bs=bs)
    fs = dict(our=lambda: learn.latents(dl=dl))
    if tmw:
        with redirect_stdout(io.StringIO()):
            peer = Learner(dls, tmw.AAE(size).to(device), loss_func=CrossEntropyLossFlat())
        peer.remove_cb(ProgressCallback)
        with torch.no_grad():
            peer.model(
                torch.rand(2, 3, size, size, device=device)
            )  # its callback looks for a z before the first batch

        def get():
            peer.z_valid = torch.tensor([], device=device)
            peer.get_preds(dl=dl, cbs=[tmw_training.GetLatentSpace()])

        fs['tmw'] = get
    peaks = {k: grown(f) for k, f in fs.items()}
    t = interleaved(fs, 2)
    for k, v in t.items():
        table.row(f'{k}, s', statistics.median(v))
        table.row(f'  peak memory, MiB', peaks[k])
    if tmw:
        r, note = ratio(t['our'], t['tmw'])
        table.row('tmw-xai over ours', r, least=4, note=note)


def predict(table):
    table.say(f'--- predict of one image of {size} px, and loading an export')
    dls = data(size, 64, bs)
    learn, item = aae_learner(dls, pretrained=False), images(size, 1)[0]
    learn.remove_cb(ProgressCallback)
    fs = dict(our=lambda: learn.predict(item))
    if tmw:
        with redirect_stdout(io.StringIO()):
            peer = Learner(dls, tmw.AAE(size).to(device), loss_func=CrossEntropyLossFlat())
        peer.remove_cb(ProgressCallback)
        fs['tmw'] = lambda: peer.predict(item)
    t = interleaved(fs, 15)
    for k, v in t.items():
        table.row(f'{k}, s', statistics.median(v))
        table.row(f'  peak memory, MiB', grown(fs[k]))
    if tmw:
        r, note = ratio(t['our'], t['tmw'])
        table.row('tmw-xai over ours', r, least=3, note=note)
    with tempfile.TemporaryDirectory() as d:

        def load(l, name):
            l.path = Path(d)
            l.export(name)
            return lambda: load_learner(Path(d) / name)

        loads = {'our': load(learn, 'our.pkl')} | ({'tmw': load(peer, 'tmw.pkl')} if tmw else {})
        t = interleaved(loads, 5)
    for k, v in t.items():
        table.row(f'{k}: loading an export, s', statistics.median(v))


def half(table):
    "Steps in bfloat16 on a CPU, and epochs with `learn.to_bf16()`"
    torch.manual_seed(0)
    x, y = torch.rand(bs, 3, size, size), torch.randint(2, (bs,))
    table.say(f'--- bfloat16 on a CPU with instructions for it, a step of {bs} images of {size} px')
    mine, mine16 = (our_steps(size, x, y, amp)[0] for amp in (False, True))
    peer, peer16 = (tmw_steps(size, x, y, amp) if tmw else {} for amp in (False, True))
    for k in mine:
        fs = dict(our=mine[k], our16=mine16[k]) | (dict(tmw=peer[k], tmw16=peer16[k]) if k in peer else {})
        t = steady(fs, 5)
        for name, label in dict(
            our=f'{k}: float32 over bfloat16',
            tmw='  tmw-xai in float32 over ours in bfloat16',
            tmw16='  tmw-xai in bfloat16 over ours in bfloat16',
        ).items():
            if name in fs:
                r, note = ratio(t['our16'], t[name])
                table.row(label, r, note=note)

    def epoch(half):
        learn = aae_learner(data(size, 64, bs), pretrained=False)
        learn.remove_cb(ProgressCallback)
        learn.logger = noop
        if half:
            learn.to_bf16()
        return lambda: learn.fit_autoencoder(1)

    t = interleaved({'full': epoch(False), 'half': epoch(True)}, 3)
    r, note = ratio(t['half'], t['full'])
    table.row('an epoch of the autoencoder phase through the learner: float32 over bfloat16', r, note=note)


def has_bf16():
    "Has this CPU instructions for bfloat16? (Without, torch emulates it, many times slower)"
    info = Path('/proc/cpuinfo')
    return info.exists() and bool({'avx512_bf16', 'amx_bf16', 'bf16'} & set(info.read_text().split()))


if __name__ == '__main__':
    parts, missed = (
        dict(
            predict=predict, waits=waits, latents=latents, epochs=epochs, steps=steps, convolutions=alone, bf16=half
        ),
        0,
    )
    for name in sys.argv[1:] or parts:
        if name == 'bf16' and (cuda or not has_bf16()):
            print('bf16: for a CPU with instructions for it')
            continue
        table = Table(f'speed-{name}')
        parts[name](table)
        missed += table.keep()
    sys.exit(missed > 0)

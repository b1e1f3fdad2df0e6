"""Does anything leak or cross over? `python bench/isolation.py` (about 4 minutes on one core)

Memory over 2,000 predictions and 50 models made and dropped, hooks and models left behind, several models in one
process, copies and pickles, eight threads predicting through one learner, what saved files hold of the images they
were trained on, and a file that would run code if it were unpickled, given to everything that reads a file.
"""

import base64, gc, io, pickle, re, shutil, sys, tempfile, warnings, weakref, zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

warnings.filterwarnings('ignore')
import PIL.Image, torch
from sklearn.datasets import load_digits
from torchvision.models import resnet18
from xaaenet.all import *
from xaaenet.latents import load_latents
from _table import Table

torch.set_num_threads(1)
digits = load_digits()
arrays = (digits.images * 255 / 16).astype(np.uint8)


def encoder():
    conv = lambda i, o: ConvLayer(i, o, stride=2)
    return nn.Sequential(conv(1, 8), conv(8, 16), conv(16, 32))


def learner(path=None, n=300, progress=False, **kwargs):
    block = DataBlock(
        (ImageBlock(PILImageBW), CategoryBlock),
        getters=[ItemGetter(0), ItemGetter(1)],
        splitter=RandomSplitter(0.2, seed=0),
        item_tfms=Resize(32),
    )
    learn = aae_learner(
        block.dataloaders(list(zip(arrays[:n], digits.target[:n])), bs=32, num_workers=0),
        kwargs.pop('arch', encoder()),
        pretrained=False,
        encoding_dims=8,
        metrics=accuracy,
        path=path,
        seed=0,
        **kwargs,
    )
    if not progress:
        learn.remove_cb(ProgressCallback)
        learn.logger = noop
    return learn


def resident():
    import ctypes

    gc.collect()
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    return next(int(l.split()[1]) / 1024 for l in open('/proc/self/status') if l.startswith('VmRSS'))


def hooks(model):
    return sum(
        len(getattr(m, k))
        for m in model.modules()
        for k in ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
    )


def memory(table):
    learn = learner(skip_dropout=0.3)
    before = hooks(learn.model)
    for i in range(200):
        learn.predict(arrays[i])
    start = resident()
    for i in range(2000):
        learn.predict(arrays[i % len(arrays)])
    table.row(
        'MiB gained over 2,000 predictions', resident() - start, most=20, note=f'{start:.0f} MiB after 200 to warm up'
    )
    table.row('hooks gained', hooks(learn.model) - before, most=0)
    refs, handles = [], hooks(net := resnet18())

    def make(i):
        model = (
            AAE(64, 3, 16, 3, arch=net if i % 2 else resnet18, pretrained=False, skip_dropout=0.3 if i % 3 else 1)
            if not i % 2
            else AAE(32, 1, 8, arch=encoder(), skip_dropout=0.3)
        )
        model.train()(torch.rand(4, model.input_channels, *model.input_size))
        refs.append(weakref.ref(model))

    for i in range(10):
        make(i)
    start = resident()
    for i in range(50):
        make(i)
    table.row('MiB gained over 50 models', resident() - start, most=20, note=f'{start:.0f} MiB after 10 to warm up')
    table.row('models that are still alive', sum(r() is not None for r in refs), most=0)
    mine = encoder()
    handles = hooks(mine)
    model = AAE(32, 1, 8, arch=mine, skip_dropout=0.3)
    used = hooks(mine)
    del model
    gc.collect()
    table.row(
        "hooks left on an encoder of the user's own when its model is gone",
        hooks(mine) - handles,
        most=0,
        note=f'{used} while it was there',
    )


def crosstalk(table):
    x = torch.rand(4, 1, 32, 32)
    a, b = (AAE(32, 1, 8, arch=encoder(), skip_dropout=0.3).eval() for _ in range(2))
    with torch.no_grad():
        alone = a(x), a.decoder_output
        b(1 - x)
        table.row(
            "another model's forward changes nothing",
            float(torch.equal(a.decoder_output, alone[1]) and torch.equal(a(x), alone[0])),
            least=1,
        )
        c, d = deepcopy(a), pickle.loads(pickle.dumps(a))
        same = [torch.equal(m(x), alone[0]) and torch.equal(m.decoder_output, alone[1]) for m in (c, d)]
        table.row('a copy and a pickle, made after a forward, give the same', float(all(same)), least=1)
        for p in c.parameters():
            p.zero_()
        c(x)
        table.row(
            'a copy that changes leaves the first as it was',
            float(torch.equal(a(x), alone[0]) and torch.equal(a.decoder_output, alone[1])),
            least=1,
        )
        table.row(
            'each has hooks of its own',
            float(
                hooks(a) == hooks(c) == hooks(d) > 0
                and len({id(h) for m in (a, c, d) for h in m.hooks}) == 3 * hooks(a)
            ),
            least=1,
        )


def threads(table):
    learn = learner(progress=True)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
    with learn.no_bar():
        alone = [learn.predict(a)[2] for a in arrays[:64]]
    with learn.no_bar(), ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda a: learn.predict(a)[2], list(arrays[:64]) * 4))
    table.row(
        'eight threads give what one gives, of 256 predictions',
        sum(torch.equal(p, alone[i % 64]) for i, p in enumerate(many)),
        least=256,
    )
    logger, bar, cbs, (sys.stdout, was) = (
        learn.logger,
        learn.progress,
        set(learn.cbs),
        (io.StringIO(), sys.stdout),
    )  # fastai's `no_bar` has made a new bar
    try:
        with ThreadPoolExecutor(8) as pool:
            bars = list(pool.map(lambda a: learn.predict(a)[2], list(arrays[:64])))

        def wrong(i):
            try:
                learn.predict(arrays[i] if i % 2 else 'nowhere.png')
                return None
            except Exception as e:
                return e

        with ThreadPoolExecutor(8) as pool:
            raised = list(pool.map(wrong, range(64)))
    finally:
        sys.stdout = was
    table.row('with their progress bars on, of 64', sum(torch.equal(p, a) for p, a in zip(bars, alone)), least=64)
    table.row(
        'bad items among them raise, and only they',
        sum((e is not None) == (i % 2 == 0) for i, e in enumerate(raised)),
        least=64,
        note=f'{type(raised[0]).__name__}',
    )
    table.row(
        'logger, progress bar and callbacks are as they were',
        float(
            learn.logger is logger
            and learn.progress is bar
            and set(learn.cbs) == cbs
            and not hasattr(learn.progress, 'mbar')
        ),
        least=1,
    )
    with learn.no_bar():
        again = learn.predict(arrays[0])[2]
    table.row(
        'and so are the modes',
        float(learn.model.decoding and not learn.phase_loss.predicting and torch.equal(again, alone[0])),
        least=1,
    )


# what saved files hold


def traces(x):
    "Byte strings that would betray the image `x` `[C, H, W]`: as floats and bytes, in any layout, and as files"
    pix = (x * 255).round().byte()
    rows = [
        x.numpy(),
        x.half().numpy(),
        x.double().numpy(),
        pix.numpy(),
        pix.permute(1, 2, 0).contiguous().numpy(),
        x.permute(1, 2, 0).contiguous().numpy(),
    ]
    middle = [a.tobytes()[a.nbytes // 3 : a.nbytes // 3 + 48] for a in rows]
    for f in ('PNG', 'JPEG', 'WEBP'):
        b = io.BytesIO()
        PIL.Image.fromarray(pix[0].numpy()).save(b, f)
        middle.append(b.getvalue()[-96:-32] if f != 'PNG' else b.getvalue()[60:120])
    return [m for m in middle if len(set(m)) > 8]  # a run of one colour betrays nothing


def insides(path):
    "The bytes of a file: as they are, the members of an archive, what is base64 in it"
    data = path.read_bytes()
    yield data
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as z:
            yield from (z.read(n) for n in z.namelist())
    for part in re.findall(rb'[A-Za-z0-9+/]{100,}={0,2}', data):
        yield base64.b64decode(part[: len(part) // 4 * 4])


def found(folder, images):
    wanted = [(i, t) for i, x in enumerate(images) for t in traces(x)]
    return [
        f'{f.name} (image {i})'
        for f in sorted(folder.rglob('*'))
        if f.is_file()
        for data in insides(f)
        for i, t in wanted
        if t in data
    ]


def saved_files(table):
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        (d / 'run').mkdir()
        (d / 'control').mkdir()
        learn = learner(d / 'run')

        class Stop(Callback):
            order = 150

            def after_batch(self):
                if self.training and self.learn.phase == 'classifier' and self.train_iter == 10:
                    raise KeyboardInterrupt

        try:
            learn.fit_phases(1, 1, 2, every=3, cbs=[Stop(), Filmstrip(show=False), ShowLossParts(show=False)])
        except KeyboardInterrupt:
            shutil.copytree(d / 'run' / 'models', d / 'run' / 'half way')
        learn.fit_phases(1, 1, 2, every=3, resume=True)
        learn.model.train()
        learn.model(learn.dls.train.one_batch()[0])  # the model has just seen a batch
        learn.export('learner.pkl')
        learn.save('fastai')
        torch.save(learn.model, d / 'run' / 'model.pt')
        held = learn.dls.test_dl(list(zip(arrays[300:400], digits.target[300:400])), with_labels=True)
        learn.latents(dl=held, path=d / 'run' / 'latents')
        learn.latents(0).save(d / 'run' / 'train latents')
        report(learn, d / 'run' / 'report.html', held, pictures='none')
        images = [
            x.as_subclass(torch.Tensor)
            for dl in (learn.dls.train.new(shuffle=False), learn.dls.valid, held)
            for b in dl
            for x in b[0].cpu()
        ]
        files = [f for f in (d / 'run').rglob('*') if f.is_file()]
        got = found(d / 'run', images)
        table.row(
            'files of a training, an export, latents and a report without images',
            len(files),
            note=', '.join(sorted({f.suffix or f.name for f in files})),
        )
        table.row(
            f'of {len(images)} images, training batches included, found in them',
            len(got),
            most=0,
            note=', '.join(got[:3]),
        )
        x = images[7]  # can the search find one?
        pix = PIL.Image.fromarray((x[0] * 255).round().byte().numpy())
        b = io.BytesIO()
        pix.save(b, 'PNG')
        controls = dict(
            tensor=lambda f: torch.save(dict(batch=torch.stack(images[:9])), f),
            npy=lambda f: np.save(f, x.numpy(), allow_pickle=False),
            bytes=lambda f: f.write_bytes(b'abc' + (x * 255).round().byte().numpy().tobytes()),
            png=lambda f: f.write_bytes(b.getvalue()),
            html=lambda f: f.write_text(
                f'<img src="data:image/png;base64,{base64.b64encode(b.getvalue()).decode()}">'
            ),
            safetensors=lambda f: save_checkpoint(f, dict(x=x)),
            pickle=lambda f: f.write_bytes(pickle.dumps(x)),
        )
        for k, save in controls.items():
            save(d / 'control' / f'x.{"npy" if k == "npy" else k}')
        seen = [k for k in controls if found_in(d / 'control' / f'x.{k}', x)]
        table.row(
            'kinds of files in which a planted image is found',
            len(seen),
            least=len(controls),
            note=', '.join(controls),
        )


def found_in(file, x):
    return any(t in data for data in insides(file) for t in traces(x))


# a file that would run code

fired = []


class Hostile:
    def __reduce__(self):
        return exec, ("import builtins; builtins.hostile = True",)


def ran():
    import builtins

    return bool(builtins.__dict__.pop('hostile', False))


def hostile(table):
    pickle.loads(pickle.dumps(Hostile()))
    table.row('the payload runs when it is unpickled', float(ran()), least=1)
    b = io.BytesIO()
    torch.save(dict(model=Hostile()), b)
    array = io.BytesIO()
    np.save(array, np.array([Hostile()], dtype=object), allow_pickle=True)
    files = {
        'a pickle': pickle.dumps(Hostile()),
        "torch's own": b.getvalue(),
        'an array of objects': array.getvalue(),
    }
    tried = refused = 0
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        learn = learner(d)
        lat = learn.latents()
        lat.save(d / 'lat')

        def resume(data):
            shutil.rmtree(d / 'models', ignore_errors=True)
            f = d / 'models' / 'resume-1-00000005.safetensors'
            f.parent.mkdir()
            f.write_bytes(data)
            plain = Learner(
                learn.dls,
                nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10)),
                loss_func=CrossEntropyLossFlat(),
                path=d,
            )
            plain.remove_cb(ProgressCallback)
            plain.logger = noop
            with warnings.catch_warnings(record=True) as w:
                warnings.simplefilter('always')
                plain.fit(1, cbs=ResumeCallback())
            if any('damaged' in str(o.message) for o in w):
                raise DamagedCheckpoint

        def phase(data):
            (d / 'models').mkdir(exist_ok=True)
            learn.phase_file('classifier').write_bytes(data)
            learn.load_phase('classifier')

        def fit(data):
            learn.phase_file('adversarial').write_bytes(data)
            with warnings.catch_warnings(record=True) as w:
                warnings.simplefilter('always')
                learn.fit_phases(1, 0, 0, resume=True)
            if any('damaged' in str(o.message) for o in w):
                raise DamagedCheckpoint

        def checkpoint(data):
            (d / 'x').write_bytes(data)
            load_checkpoint(d / 'x')

        def latents_part(name):
            def read(data):
                shutil.rmtree(d / 'bad', ignore_errors=True)
                shutil.copytree(d / 'lat', d / 'bad')
                (d / 'bad' / name).write_bytes(data)
                load_latents(d / 'bad')

            return read

        readers = dict(
            load_checkpoint=checkpoint,
            load_phase=phase,
            fit_phases=fit,
            ResumeCallback=resume,
            **{f'load_latents, {f.name}': latents_part(f.name) for f in sorted((d / 'lat').iterdir())},
        )
        for name, read in readers.items():
            for kind, data in files.items():
                tried += 1
                try:
                    read(data)
                    said = 'it was read'
                except Exception as e:
                    said, refused = f'{type(e).__name__}', refused + 1
                if ran():
                    table.say(f'  {name} RAN {kind}')
                    refused -= 1
                elif said == 'it was read':
                    table.say(f'  {name} read {kind}')
        table.row(
            'readers of the library that refuse all three kinds, without running them',
            refused,
            least=tried,
            note=', '.join(readers),
        )


if __name__ == '__main__':
    table = Table('isolation')
    for part in (crosstalk, threads, hostile, saved_files, memory):
        part(table)
    table.end()

"""Does anything leak, or cross from one use to another? `python bench/isolation.py` (two to five minutes on one thread)

Resident memory over 2,000 predictions and 50 models made and dropped, after a warm-up; hooks left on modules; models that should be gone (by weak reference);
copies, pickles, and two models in one process; eight threads that predict through one learner, also while one of them raises; and every file that a full
training, an export and the latents leave behind, searched for the images: as floats and bytes in several layouts, as encoded pictures, and as base64, also inside
archives. What the search can find is shown on planted images. A hostile file is given to every loading path but fastai's `load_learner`."""
import base64, contextlib, ctypes, gc, io, json, os, pickle, sys, tempfile, threading, time, warnings, weakref, zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

warnings.filterwarnings('ignore')
import PIL.Image, torch
from copy import deepcopy
from sklearn.datasets import load_digits
from torch import nn
from xaaenet.all import *
from _table import Table

torch.set_num_threads(1)
data = load_digits()
arrays = (data.images*255/16).astype(np.uint8)
conv = lambda i, o, s=2: ConvLayer(i, o, stride=s)

def encoder(): return nn.Sequential(conv(1, 8), conv(8, 16), conv(16, 32))
def make(path=None, n=256, **kwargs):
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), getters=[ItemGetter(0), ItemGetter(1)], splitter=RandomSplitter(0.25, seed=1), item_tfms=Resize(32))
    return aae_learner(block.dataloaders(list(zip(arrays[:n], data.target[:n])), bs=32, num_workers=0), encoder(), encoding_dims=8, path=path, **kwargs)

def rss():
    "MiB that the process holds, less what its allocator keeps free for later"
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return next(int(l.split()[1])/1024 for l in open('/proc/self/status') if l.startswith('VmRSS'))

hook_dicts = [k for k in vars(nn.Module()) if 'hooks' in k and not k.endswith(('_with_kwargs', '_always_called'))]
def hooks(model): return sum(len(getattr(m, k) or ()) for m in model.modules() for k in hook_dicts)

def memory(table, n_preds=2000, n_models=50):
    learn = make()
    with learn.no_bar(), learn.no_logging():
        learn.fit_classifier(1, save=False)
        before = hooks(learn.model)
        for i in range(100): learn.predict(arrays[i])
        start, seen = rss(), []
        for i in range(n_preds):
            learn.predict(arrays[i % len(arrays)])
            if i % 200 == 199: seen.append(rss() - start)
    table.row(f'{n_preds} predictions: memory beyond the first 100, MiB', max(seen), most=20, note='at each tenth: ' + ' '.join(f'{o:.1f}' for o in seen))
    table.row('hooks left by them', hooks(learn.model) - before, most=0)
    gone = []
    def one(i):
        m = AAE(64, 3, 16, arch=[resnet18, 'test_resnet', nn.Sequential(conv(3, 8), conv(8, 16))][i % 3], pretrained=False, skip_dropout=i % 2/2)
        m(torch.rand(4, 3, 64, 64)); m.ae_loss_func(None).backward(); m.parts()
        gone.append(weakref.ref(m)); gone.extend(weakref.ref(h) for h in m.hooks)
        l = make(skip_dropout=i % 2/2)
        with l.no_bar(), l.no_logging():
            if i % 5 == 0: l.fit_classifier(1, save=False)
            l.get_preds()
        gone.append(weakref.ref(l)); gone.append(weakref.ref(l.model))
    for i in range(10): one(i)
    start, seen = rss(), []
    for i in range(n_models):
        one(i)
        if i % 10 == 9: seen.append(rss() - start)
    table.row(f'{n_models} models and learners made: memory beyond the first 10, MiB', max(seen), most=20, note='after each ten: ' + ' '.join(f'{o:.1f}' for o in seen))
    table.row('models, learners or hooks alive after they were dropped', sum(r() is not None for r in gone), most=0, note=f'of {len(gone)}')
    enc = nn.Sequential(conv(1, 8), conv(8, 16), conv(16, 32))
    m = AAE(32, 1, 8, arch=enc, skip_dropout=0.5); with_model = hooks(enc)
    assert with_model > 0 # the count does see them
    m(torch.rand(4, 1, 32, 32)); del m; gc.collect()
    table.row("hooks on one's own encoder after its model was dropped", hooks(enc), most=0, note=f'{with_model} while it lived')

def copies(table):
    x = torch.rand(4, 1, 32, 32)
    for p in (1, 0.5):
        a, b = (AAE(32, 1, 8, arch=encoder(), skip_dropout=p).eval() for _ in range(2))
        with torch.no_grad(): alone = a(x).clone(), a.decoder_output.clone()
        wrong = 0
        def same(m): # as `a` was alone, whatever ran in between
            with torch.no_grad(): return torch.equal(m(x), alone[0]) and torch.equal(m.decoder_output, alone[1])
        for f in (lambda: b(torch.rand(2, 1, 32, 32)), lambda: b.train()(torch.rand(4, 1, 32, 32)), lambda: deepcopy(a).train()(torch.rand(4, 1, 32, 32)), lambda: None):
            f(); wrong += not same(a)
        for c in (deepcopy(a), pickle.loads(pickle.dumps(a))):
            wrong += not same(c) or c.z is a.z or hooks(c) != hooks(a) or any(h.stored is not None for h in c.hooks)
            c.train(); c(x); wrong += not same(a)
        table.row(f'copies and neighbours that change an answer, skip_dropout={p}', wrong, most=0, note='two models, deepcopy, pickle, both after a forward')

def threads(table, n=8, rounds=6):
    learn = make()
    with learn.no_bar(), learn.no_logging(): learn.fit_classifier(1, save=False)
    logger, bar = learn.logger, hasattr(learn, 'progress')
    with learn.no_bar():
        alone = [learn.predict(arrays[i])[2] for i in range(n*rounds)]
        preds, ref = learn.get_preds()[0], learn.latents()
    wrong, raised = [], []
    def work(t):
        for r in range(rounds):
            i = t*rounds + r
            if not torch.equal(learn.predict(arrays[i])[2], alone[i]): wrong.append(i)
            if r % 3 == 0 and not torch.equal(learn.get_preds()[0], preds): wrong.append(t)
            if r % 3 == 1:
                lat = learn.latents()
                if not torch.equal(lat.logits, ref.logits): wrong.append('latents')
            if t == 0:
                try: learn.predict(np.zeros((4, 4, 7), np.uint8))
                except Exception as e: raised.append(e)
    with ThreadPoolExecutor(n) as pool, contextlib.redirect_stdout(io.StringIO()): list(pool.map(work, range(n))) # the bars run
    table.row(f'{n} threads: answers that differ from one thread', len(wrong), most=0, note=f'{n*rounds} predictions, some with get_preds and latents between')
    table.row('of which one raised', len(raised), least=rounds, most=rounds)
    table.row('logger, progress bar, mode or phase changed by them', (learn.logger is not logger) + (hasattr(learn, 'progress') != bar) + (learn.phase_loss.predicting or not learn.model.decoding), most=0)

def forms(im):
    "The ways in which the image `[H, W]` of bytes may lie in a file"
    f32, parts = (im/255).astype(np.float32), {}
    for k,a in {'uint8': im, 'float32': f32, 'float16': f32.astype(np.float16), 'float64': im/255, 'float 0-255': im.astype(np.float32), 'RGB uint8': np.stack([im]*3, -1), 'normalised': ((f32-0.5)/0.25).astype(np.float32)}.items():
        mid = len(a)//3
        parts[k] = np.ascontiguousarray(a[mid:mid+8]).tobytes() # some rows are enough, whatever lies around them
    parts['text'] = ', '.join(map(str, im[len(im)//2].tolist()))[:200].encode()
    parts["numpy's text"] = str(im[len(im)//2])[1:-1].split('\n')[0].encode()
    for fmt in ('PNG', 'JPEG', 'WEBP'):
        b = io.BytesIO(); PIL.Image.fromarray(im).save(b, fmt); parts[fmt] = b.getvalue()[-min(len(b.getvalue())//2, 400):-16]
    return parts | {f'{k}, base64 {i}': base64.b64encode(v[i:])[:-4] for k,v in list(parts.items()) for i in range(3)}

def contents(path):
    "The bytes of a file, and those of its members if it is an archive"
    raw = path.read_bytes()
    yield raw
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as z:
            for o in z.namelist(): yield z.read(o)
    if raw[:2] == b'\x1f\x8b':
        import gzip; yield gzip.decompress(raw)

def found_in(path, ims):
    "The forms of any of `ims` that `path` holds"
    parts = list(contents(path))
    return {k for im in ims for k,v in forms(im).items() if any(v in o for o in parts)}

def files(table):
    with tempfile.TemporaryDirectory() as d:
        d = Path(d); learn = make(d, n=96)
        with learn.no_bar(), learn.no_logging(), contextlib.redirect_stdout(io.StringIO()):
            learn.fit_phases(1, 1, 1); learn.model.train(); learn.model(learn.dls.valid.one_batch()[0]); learn.get_preds(); learn.reference()
            learn.export('export.pkl'); learn.save('whole'); learn.latents(path=d/'latents')
        torch.save(learn.model, d/'model.pt')
        before = {k: v.clone() for k,v in learn.model.state_dict().items()}
        ims = [(b*255).round().byte().numpy() for dl in learn.dls.loaders for x,_ in dl.new(shuffle=False, drop_last=False) for b in x[:,0]]
        ims = [o for o in ims if len(np.unique(o[10:18])) > 8] + list(arrays[:96]) # as the model sees them, and as they came
        left = sorted(o for o in d.rglob('*') if o.is_file())
        hits = {o.relative_to(d): found_in(o, ims) for o in left}
        for o in left: table.say(f'    {str(o.relative_to(d)):40} {o.stat().st_size:>9,} bytes  {", ".join(sorted(hits[o.relative_to(d)])) or "no image"}')
        table.row('files left by training, export and latents', len(left), least=8)
        table.row('of which hold one of the images', sum(map(bool, hits.values())), most=0, note=f'{len(ims)} images searched for in {len(forms(ims[0]))} forms')
        planted, im = d/'planted', ims[3]
        x = torch.from_numpy((im/255).astype(np.float32)); png = io.BytesIO(); PIL.Image.fromarray(im).save(png, 'PNG')
        def put(b): planted.write_bytes(b); return found_in(planted, ims)
        def saved(o): torch.save(o, planted); return found_in(planted, ims)
        def zipped():
            with zipfile.ZipFile(planted, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('x', x.numpy().tobytes())
            return found_in(planted, ims)
        learn.model.input_image = None; learn.dls.seen = x # as a careless attribute would
        def exported(): torch.save(learn.dls, planted, pickle_protocol=2); return found_in(planted, ims)
        tries = {'torch.save': saved({'x': x[None, None]}), 'pickle': put(pickle.dumps(torch.stack([x, x]))), 'bytes': put(pickle.dumps(im)), 'a page of HTML': put(b'<img src="data:image/png;base64,' + base64.b64encode(png.getvalue()) + b'">'),
                 'normalised': saved((x-0.5)/0.25), 'half': saved(x.half()), 'a zip archive': zipped(), 'an attribute of the dls': exported()}
        table.row('planted images that the search finds', sum(map(bool, tries.values())), least=len(tries), note=', '.join(tries))
        hostile(table, learn, d, before)

class Payload:
    "Runs code when it is unpickled"
    def __init__(self, flag): self.flag = flag
    def __reduce__(self): return Path.write_text, (Path(self.flag), 'ran')

def hostile(table, learn, d, before):
    "Give a pickle that would run code to every loading path"
    flag = d/'flag'
    def fired():
        was = flag.exists(); flag.unlink(missing_ok=True); return was
    bad = dict(before, hostile=Payload(flag))
    torch.save(bad, d/'bad.pt'); pickle.loads(pickle.dumps(Payload(flag)))
    table.row('the payload runs under plain pickle', fired(), least=1)
    torch.load(d/'bad.pt', weights_only=False)
    table.row('and under torch.load(weights_only=False)', fired(), least=1)
    results = {}
    def attempt(name, f, reads=True):
        try:
            with warnings.catch_warnings(record=True) as w: warnings.simplefilter('always'); f()
            how = f'warned: {w[0].message}' if w else 'loaded' if reads else 'not read'
        except Exception as e: how = f'{type(e).__name__}: {str(e).splitlines()[0]}'
        results[name] = fired(), how
    def load(f): return lambda: learn.load(f.stem) if f.stem == 'whole' else learn.load_phase(f.stem.removeprefix('aae-'))
    files = sorted(o for o in (d/'models').rglob('*') if o.is_file() and o.suffix != '.json')
    for f in files:
        old, ours = f.read_bytes(), f.stem.removeprefix('aae-') in phases
        for kind, data in dict(weights=(d/'bad.pt').read_bytes(), pickle=pickle.dumps(Payload(flag))).items():
            f.write_bytes(data)
            if ours or f.stem == 'whole': attempt(f'{"load_phase" if ours else "learn.load"}, {f.name}, {kind}', load(f))
            if f.stem != 'whole':
                with learn.no_bar(), learn.no_logging(): attempt(f'fit_phases(resume=True), {f.name}, {kind}', lambda: learn.fit_phases(1, 1, 1, resume=True), reads=ours)
        f.write_bytes(old)
    for f in sorted(o for o in (d/'latents').rglob('*') if o.is_file()):
        old, kinds = f.read_bytes(), dict(pickle=pickle.dumps(Payload(flag)))
        if f.suffix == '.npy': b = io.BytesIO(); np.save(b, np.array([Payload(flag)], dtype=object), allow_pickle=True); kinds['objects'] = b.getvalue()
        for kind, data in kinds.items():
            f.write_bytes(data); attempt(f'load_latents, {f.name}, {kind}', lambda: load_latents(d/'latents'))
        f.write_bytes(old)
    for k,(ran, how) in results.items(): table.say(f'    {k:58} {"RAN" if ran else "did not run"}; {how[:150]}')
    table.row('loading paths tried with a hostile file', len(results), least=8)
    table.row('of which ran its code', sum(ran for ran,_ in results.values()), most=0)
    table.row('of which took it without a word', sum(how == 'loaded' for _,how in results.values()), most=0)

def main():
    table = Table('isolation')
    for f in (threads, copies, files, memory): set_seed(0); f(table)
    table.end()

if __name__ == '__main__': main()

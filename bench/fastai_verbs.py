"""Do fastai's verbs (methods) give the same predictions, whichever way a loader reached the learner?

`python bench/fastai_verbs.py [--all]`

Each verb of `Learner` and `Interpretation` that takes a `dl`, a `dls` or items, times the `dls` with `Normalize` or
without, times the loader (the learner's, the user's own, a `test_dl` of either, PyTorch's), times the learner before
and after `export` and `load_learner`, times the workers (none, two that are forked, two that are spawned). A cell
counts as equal where its numbers are within 1e-6 of those that the model gives for the images in [0, 1], read by
Pillow. A PyTorch loader whose images were normalised has to be refused with the documented error. Documented too: the
pictures (not the numbers) of an `Interpretation` are drawn by the loader that it was given, in wrong colours if it
normalises. Left out: what fastai itself can't do with PyTorch loaders.
Spawned workers take seconds to start: with them only some pairs of loader and verb are tried, and all of them with
`--all`, which takes half an hour.
"""

import itertools, sys, tempfile, warnings
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from fastai.vision.all import *
from torch.utils.data import TensorDataset

from xaaenet.all import *
from xaaenet.test_utils import thin_encoder

from _table import Table

size, n_images, mean, std = 32, 40, 0.4, 0.3


def draw(folder):
    "Noisy images of two classes, dark and light"
    rng = np.random.RandomState(0)
    for k, name in enumerate(('dark', 'light')):
        (folder / name).mkdir(parents=True)
        for i in range(n_images // 2):
            pixels = rng.rand(size, size, 3) * 120 + 100 * k
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f'{i}.png')
    return sorted(folder.rglob('*.png'))


def dls_of(files, normalize):
    "The user's own `dls`"
    tfms = [Normalize.from_stats([mean] * 3, [std] * 3, cuda=False)] if normalize else []
    block = DataBlock((ImageBlock, CategoryBlock), get_y=parent_label, splitter=RandomSplitter(0.5, seed=0),
                      batch_tfms=tfms)
    return block.dataloaders(files, bs=10, num_workers=0)


def pixels_of(files):
    "Images in [0, 1], read without fastai"
    arrays = [np.asarray(PIL.Image.open(o)) for o in files]
    return torch.tensor(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


class Case:
    "A learner, its loaders and what they should give"

    def __init__(self, files, normalize, folder):
        self.normalizes = normalize
        self.dls = dls_of(files, normalize)
        self.learn = aae_learner(self.dls, thin_encoder(3), encoding_dims=8, metrics=accuracy, path=folder, seed=0)
        self.learn.remove_cb(ProgressCallback)
        with self.learn.no_logging():
            self.learn.fit_phases(0, 0, 3, lr=1e-2, save=False, seed=0)
        self.items = list(self.dls.valid_ds.items)
        self.x = pixels_of(self.items)
        self.y = torch.tensor([self.dls.vocab.o2i[o.parent.name] for o in self.items])
        model = self.learn.aae.eval()
        with torch.no_grad():
            logits = model.classify(model.encode(self.x))
        self.probs = logits.softmax(1)
        self.losses = F.cross_entropy(logits, self.y, reduction='none')
        self.learn.export('learner.pkl')
        loaded = load_learner(Path(folder) / 'learner.pkl')
        self.learners = {'trained': self.learn, 'loaded': loaded}

    def loaders(self, workers):
        "Each loader that can reach a learner, over the validation items in order"
        learn, dls = self.learn, self.dls
        torch_loader = partial(torch.utils.data.DataLoader, batch_size=10, num_workers=workers)
        own = learn.dls.valid.new(num_workers=workers)
        return {
            "the learner's": own,
            "the user's": dls.valid.new(num_workers=workers),
            "test_dl of the learner's": learn.dls.test_dl(self.items, with_labels=True, num_workers=workers),
            "test_dl of the user's": dls.test_dl(self.items, with_labels=True, num_workers=workers),
            "PyTorch's": torch_loader(TensorDataset(self.x, self.y)),
            "PyTorch's, normalised": torch_loader(TensorDataset((self.x - mean) / std, self.y)),
        }


def _replaced(learn, dl):
    "Predictions of the loaders that were set as the learner's own, as in progressive resizing"
    old = learn.dls
    learn.dls = DataLoaders(dl, dl)
    try: return learn.get_preds()[0]
    finally: learn.dls = old


def _items(learn, dl):
    found = Interpretation.from_learner(learn, dl=dl)
    return found[list(range(len(dl.dataset)))][1]
def _pictures(learn, dl):
    "The images as `dl` draws them, in 8 bits; as they are where that is the same"
    images = Interpretation.from_learner(learn, dl=dl)[list(range(len(dl.dataset)))][0]
    drawn = dl.after_batch.decode((images,))[0].float() / 255
    return images if (drawn - images).abs().max() < 2 / 255 else drawn
def _latents(learn, dl): return learn.latents(dl=dl).probs
def _get_preds(learn, dl): return learn.get_preds(dl=dl)[0]
def _with_loss(learn, dl): return learn.get_preds(dl=dl, with_loss=True)[2]
def _tta(learn, dl): return learn.tta(dl=dl, n=1)[0]
def _validate(learn, dl): return torch.tensor(learn.validate(dl=dl)[-1])
def _losses(learn, dl): return Interpretation.from_learner(learn, dl=dl).losses
def _confusion(learn, dl):
    return torch.tensor(ClassificationInterpretation.from_learner(learn, dl=dl).confusion_matrix())
def _top_losses(learn, dl): return Interpretation.from_learner(learn, dl=dl).top_losses(5)[0]
def _counterfactuals(learn, dl):
    return learn.counterfactuals(dl, reference=references[0], kappas=(0, 2)).logits.softmax(1)


references = []
verbs = {
    'get_preds': (_get_preds, 'probs'), 'get_preds(with_loss)': (_with_loss, 'losses'),
    'tta': (_tta, 'probs'), 'validate': (_validate, 'accuracy'),
    'Interpretation.losses': (_losses, 'losses'), 'confusion_matrix': (_confusion, 'confusion'),
    'top_losses': (_top_losses, 'top'), 'learn.dls = ...': (_replaced, 'probs'), 'latents': (_latents, 'probs'),
    'counterfactuals': (_counterfactuals, 'probs'), 'Interpretation[i]': (_items, 'probs'),
    'pictures of Interpretation': (_pictures, 'x'),
}
# fastai asks a PyTorch loader for what it doesn't have
fastai_only = {'tta', 'confusion_matrix', 'Interpretation[i]', 'pictures of Interpretation'}


def expected(case, what):
    "What a verb should give"
    preds = case.probs.argmax(1)
    if what == 'accuracy': return (preds == case.y).float().mean()
    if what == 'confusion':
        return torch.tensor([[((case.y == a) & (preds == b)).sum() for b in (0, 1)] for a in (0, 1)])
    if what == 'top': return case.losses.topk(5)[0]
    return getattr(case, what)


def outcome(case, learn, verb, loader_name, dl):
    "'equal', 'refused' as documented, or whatever else happened"
    if loader_name.startswith('PyTorch') and verb in fastai_only: return 'left out'
    f, what = verbs[verb]
    try: got = f(learn, dl)
    except Exception as e:
        documented = loader_name.endswith('normalised') and 'Pixel values must be in [0, 1]' in str(e)
        return 'refused' if documented else f'{type(e).__name__}: {str(e)[:200]}'
    if loader_name.endswith('normalised'): return 'took normalised images'
    off = (got.double() - expected(case, what).double()).abs().max().item()
    if off <= 1e-6: return 'equal'
    known = verb == 'pictures of Interpretation' and case.normalizes and "user's" in loader_name
    return 'documented' if known else f'off by {off:.2g}'


def of_items(case, learn):
    "Verbs that take items"
    found = Counter()
    for item, probs in zip(case.items[:3], case.probs):
        for o in (item, str(item), PILImage.create(item), np.asarray(PIL.Image.open(item))):
            off = (learn.predict(o)[2] - probs).abs().max().item()
            found['equal' if off <= 1e-6 else f'predict off by {off:.2g}'] += 1
        for o in (item, PIL.Image.open(item), item.read_bytes()):
            off = (learn.encode(o)[1].softmax(1) - probs).abs().max().item()
            found['equal' if off <= 1e-6 else f'encode off by {off:.2g}'] += 1
    return found


@contextmanager
def started_by(method):
    "Start worker processes by this method"
    was = torch.multiprocessing.get_start_method()
    torch.multiprocessing.set_start_method(method, force=True)
    try: yield
    finally: torch.multiprocessing.set_start_method(was, force=True)


fine = 'equal', 'refused', 'documented', 'left out'  # none of these is another outcome


def count(table, cases, method, workers, every):
    "A row for each kind of `dls` and learner"
    turn = 0
    for (name, case), who in itertools.product(cases.items(), ('trained', 'loaded')):
        found, learn = Counter(), case.learners[who]
        for loader_name, dl in case.loaders(workers).items():
            for verb in verbs:
                turn += 1
                if method == 'spawn' and not every and turn % 7: continue
                result = outcome(case, learn, verb, loader_name, dl)
                found[result] += 1
                if result not in fine: table.say(f'    {verb}, {loader_name}: {result}')
        if not workers: found += of_items(case, learn)
        others = sum(found.values()) - sum(found[o] for o in fine)
        how = f'{workers} workers, {method}' if workers else 'no workers'
        table.row(f'others: {name}, {who}, {how}', others, most=0,
                  note=', '.join(f'{found[o]} {o}' for o in fine if found[o]))


def main(every):
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        files = draw(Path(tmp) / 'images')
        cases = {k: Case(files, on, tmp) for k, on in (('plain dls', False), ('dls with Normalize', True))}
        references[:] = [cases['plain dls'].learn.reference()]
        table = Table('fastai_verbs')
        count(table, cases, 'fork', 0, every)
        for method in ('fork', 'spawn'):
            with started_by(method): count(table, cases, method, 2, every)
        table.end()


if __name__ == '__main__': main('--all' in sys.argv)

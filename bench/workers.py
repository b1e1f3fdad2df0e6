"""Does every pass over a loader work with worker processes that aren't forked, as on Windows, macOS and Python 3.14?

`python bench/workers.py forkserver spawn` runs all of them with each of these start methods (a spawned process imports
everything first, so that takes minutes); `forkserver:all spawn:latents,images` runs only those that are named.
Prints `ok` or `FAIL` for each, and exits 1 on any FAIL.
"""
import multiprocessing, sys, tempfile, warnings

tiny = dict(names=['brightness'], held_out=False, max_p=1, n_boot=10, n_perm=20, curve=0)

def image_files(root):
    "Forty digits as files, in a folder for each of two classes"
    import PIL.Image
    from xaaenet.test_utils import arrays, digits
    for i in range(40):
        file = root/('odd' if digits.target[i] % 2 else 'even')/f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(arrays[i]).resize((32, 32)).save(file)
    return root

def learner(root):
    "A learner of them whose loaders have two workers each, and `Normalize`"
    from fastai.vision.all import (CategoryBlock, DataBlock, ImageBlock, Normalize, PILImageBW, RandomSplitter,
                                   get_image_files, parent_label)
    from xaaenet.all import aae_learner
    from xaaenet.test_utils import thin_encoder
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=get_image_files, get_y=parent_label,
                      splitter=RandomSplitter(0.5, seed=0), batch_tfms=Normalize.from_stats([0.5], [0.25], cuda=False))
    dls = block.dataloaders(image_files(root), bs=8, num_workers=0)
    learn = aae_learner(dls, thin_encoder(), encoding_dims=4, path=root.parent)
    for dl in learn.dls.loaders: dl.fake_l.num_workers = 2 # only now, since checks before training are no pass
    return learn

def passes(learn, folder):
    "What reads a loader, by name"
    from xaaenet.all import cue_table, report
    valid = learn.dls.valid
    return dict(
        latents=learn.latents,
        get_preds=learn.get_preds,
        reference=lambda: learn.reference(again=True),
        images=lambda: learn.images(valid),
        counterfactuals=lambda: learn.counterfactuals(valid),
        attributions=lambda: learn.attributions(valid, steps=2),
        cue_table=lambda: cue_table(valid),
        out_of_distribution=lambda: learn.out_of_distribution(valid),
        plot_kept=lambda: learn.plot_kept(valid, 2),
        judge=lambda: learn.judge(valid, **tiny),
        report=lambda: report(learn, folder/'report.html', maps=('pca',), n_walks=2, n_boot=10),
        weighted=lambda: learn.latents(dl=weighted(valid)),
        loaded=lambda: loaded(learn, folder).latents(dl=valid),
        fit_phases=lambda: fit(learn))

def weighted(dl):
    "The same rows, drawn by weights"
    from fastai.vision.all import WeightedDL
    return dl.new(cls=WeightedDL, wgts=[1.]*len(dl.dataset))

def loaded(learn, folder):
    "The learner, exported and loaded"
    from fastai.vision.all import load_learner
    learn.export(folder/'learn.pkl')
    return load_learner(folder/'learn.pkl')

def fit(learn):
    "Each phase for one epoch, with checkpoints and pictures"
    from xaaenet.all import Filmstrip
    with learn.no_logging(): learn.fit_phases(1, 1, 1, every=1, cbs=Filmstrip())

def attempt(name, run):
    "Run it, and print what came of it"
    import matplotlib.pyplot as plt
    try: run()
    except Exception as e:
        print(f'FAIL {name}: {type(e).__name__}: {str(e)[:300]}', flush=True)
        return False
    finally: plt.close('all')
    print(f'ok   {name}', flush=True)
    return True

def main(asked):
    "Run what was asked for; were all right?"
    warnings.simplefilter('ignore')
    import matplotlib
    matplotlib.use('agg')
    from fastai.vision.all import Path, torch
    torch.set_num_threads(1)
    good = True
    with tempfile.TemporaryDirectory() as folder:
        learn = learner(Path(folder)/'images')
        every = passes(learn, Path(folder))
        multiprocessing.set_forkserver_preload(['fastai.vision.all', 'xaaenet.all'])
        for method,names in asked.items():
            multiprocessing.set_start_method(method, force=True)
            with learn.no_bar(): done = [attempt(f'{method} {n}', every[n]) for n in names or every]
            good = good and all(done)
    return good

if __name__ == '__main__':
    parts = [o.partition(':') for o in sys.argv[1:] or ['forkserver', 'spawn']]
    sys.exit(not main({method: [] if names in ('', 'all') else names.split(',') for method,_,names in parts}))

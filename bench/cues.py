"""Do the eleven cues agree with tmw-xai's, and what do they cost?

`python bench/cues.py` (half a minute on two cores; needs `pip install --no-deps tmw-xai`)

Photographs of 500 x 375 pixels, cut from scikit-learn's two, and those two as they are. "Same tensor": tmw-xai is
given the decoded pixels as numbers. Times of the two are interleaved.
"""

import sys, tempfile, time, warnings

warnings.filterwarnings('ignore')
import PIL.Image, sklearn.datasets, torch
from sklearn.datasets import load_sample_images
from xaaenet.all import *
from xaaenet.cues import gray
from _table import Table

try:
    from tell_me_why import feature_scores as tmw
except ImportError:
    sys.exit('bench/cues.py compares with tmw-xai, which is not installed: pip install --no-deps tmw-xai')
tmw.tqdm = lambda it, **kw: it  # its bars would be timed too

their_names = [n for c in tmw.available_feature_scores().values() for n in c]
theirs = dict(zip(cues, their_names))  # ours that they have come first, in their order
torch.set_num_threads(2)
table, rng, rounds = Table('cues'), np.random.RandomState(0), 5
with tempfile.TemporaryDirectory() as d:
    files = dict(png=[], jpg=[])
    for i in range(60):
        im = PIL.Image.fromarray(load_sample_images().images[i % 2])
        x, y = rng.randint(im.width - 500), rng.randint(im.height - 375)
        im = im.crop((x, y, x + 500, y + 375))
        for ext, fs in files.items():
            fs.append(Path(d) / f'{i}.{ext}')
            im.save(fs[-1], **(dict(quality=90) if ext == 'jpg' else {}))

    def compare(name, fs, bound):
        a, b = cue_table(fs), tmw.compute_feature_score_table(fs)
        worst = {n: np.abs(a[n].values - b[theirs[n]].values).max() for n in theirs}
        second = sorted(worst, key=worst.get)[-2:][::-1]
        table.row(
            f'largest difference of a cue, {name}',
            max(worst.values()),
            most=bound,
            note=', '.join(f'{n} {worst[n]:.2g}' for n in second),
        )

    plain = tmw._read_grayscale_image

    def same_pixels(path, image_size=None):
        g = gray(torch.from_numpy(np.array(PIL.Image.open(path).convert('RGB'))).permute(2, 0, 1)[None].float() / 255)
        return g if image_size is None else tmw.TF.resize(g, list(image_size), antialias=True)

    tmw._read_grayscale_image = same_pixels
    compare('same tensor', files['png'], 1e-4)
    tmw._read_grayscale_image = plain
    compare(
        "JPEG, scikit-learn's photographs",
        sorted((Path(sklearn.datasets.__file__).parent / 'images').glob('*.jpg')),
        2e-3,
    )
    compare('JPEG, crops re-encoded', files['jpg'], 2e-3)
    times, many = [], files['jpg'] * 5
    for _ in range(rounds):
        t0 = time.perf_counter()
        cue_table(many)
        t1 = time.perf_counter()
        tmw.compute_feature_score_table(many)
        times.append((t1 - t0, time.perf_counter() - t1))
    ratios = np.array([b / a for a, b in times])
    ours, theirs = 1000 * np.median(times, axis=0) / len(many)
    table.row(
        'times as fast as tmw-xai, eleven cues from JPEG',
        np.median(ratios),
        least=4,
        note=f'{ratios.min():.1f} to {ratios.max():.1f} in {rounds} rounds; '
        f'{ours:.1f} ms against {theirs:.1f} ms an image',
    )
table.end()

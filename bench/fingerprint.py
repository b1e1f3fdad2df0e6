"""Hashes of what one fixed seed gives: predictions, latents, counterfactuals, verdicts and the report's numbers.

Run it on two commits, in one environment and on one machine: a change that only moves code prints the same hashes.
`python bench/fingerprint.py` (about two minutes); `--out FILE` also writes the hashes as JSON."""

import argparse, hashlib, json, re, tempfile, warnings
from html.parser import HTMLParser
from pathlib import Path

from fastai.vision.all import *
from sklearn.datasets import load_digits
from xaaenet.all import *
from xaaenet.demo import demo_encoder, slant

warnings.filterwarnings('ignore')
torch.set_num_threads(1)
digits = load_digits()
images = [np.kron(im, np.ones((4, 4))) * (255 / 16) for im in digits.images[:700]]
images = [im.round().astype(np.uint8) for im in images]


def dls_of(block, labels, n=420):
    "The first `n` digits, a quarter of them for validation"
    data = DataBlock(
        (ImageBlock(PILImageBW), block),
        getters=[ItemGetter(0), ItemGetter(1)],
        splitter=IndexSplitter(range(3 * n // 4, n)),
    )
    return data.dataloaders(list(zip(images, labels))[:n], bs=64, num_workers=0)


def trained(block, labels, **kwargs):
    "A small learner after three short phases"
    set_seed(0, reproducible=True)
    learn = aae_learner(dls_of(block, labels), demo_encoder(width=4), encoding_dims=8, seed=0, **kwargs)
    with learn.no_bar(), learn.no_logging():
        learn.fit_phases(1, 2, 3, lr=3e-3, save=False, seed=0)
    return learn


def digest(*values):
    "A short hash of tensors, arrays, tables and what JSON can hold"
    h = hashlib.sha256()
    for v in values:
        if isinstance(v, torch.Tensor):
            v = v.detach().cpu().numpy()
        if isinstance(v, pd.DataFrame):
            v = v.to_csv(float_format='%.17g')
        if isinstance(v, np.ndarray):
            h.update(np.ascontiguousarray(v).tobytes())
        else:
            h.update((v if isinstance(v, str) else json.dumps(v, sort_keys=True, default=float)).encode())
    return h.hexdigest()[:16]


class Text(HTMLParser):
    "Text of a page, without scripts and styles"

    def __init__(self, html):
        super().__init__()
        self.off, self.words = 0, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.off += tag in ('script', 'style')

    def handle_endtag(self, tag):
        self.off -= tag in ('script', 'style')

    def handle_data(self, data):
        if not self.off:
            self.words.append(data)


def report_numbers(path):
    "Every number of a report's text in order, and what its script draws from"
    html = Path(path).read_text(encoding='utf-8')
    text = ' '.join(Text(html).words)
    text = re.sub(r'Written.*?Model', '', text, flags=re.S)  # the date, and versions
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)[1])
    return re.findall(r'\d[\d.,]*', text), data


def marks(t):
    return [w for w, on in dict(even=t % 2 == 0, large=t > 4, loop=t in (0, 6, 8, 9)).items() if on]


kinds = dict(
    category=(CategoryBlock, digits.target.astype(str), {}),
    labels=(MultiCategoryBlock, [marks(t) for t in digits.target], {}),
    score=(RegressionBlock, [slant(im) / 20 for im in digits.images], {}),
)
walks = dict(category={}, labels=dict(target='loop'), score=dict(change=0.5))


def fingerprints(kind):
    "Hashes of everything that a learner of one task gives"
    block, labels, kwargs = kinds[kind]
    learn = trained(block, labels, **kwargs)
    held_out = learn.dls.test_dl(list(zip(images, labels))[420:560], with_labels=True)
    lat, preds = learn.latents(dl=held_out), learn.get_preds(dl=held_out, with_decoded=True, with_loss=True)
    cf = learn.counterfactuals(learn.images(held_out)[:24], **walks[kind])
    v = learn.judge(held_out, names=['brightness', 'contrast', 'asymmetry'], max_p=1, n_boot=200, curve=20)
    with tempfile.TemporaryDirectory() as d:
        output = None if kind == 'category' else lat.outputs[-1]
        numbers, data = report_numbers(report(learn, f'{d}/r.html', held_out, verdicts=v, n_walks=12, output=output))
    return {
        'weights': digest(*learn.model.state_dict().values()),
        'predictions': digest(*preds),
        'latents': digest(lat.z, lat.logits, lat.targets, lat.df()),
        'counterfactuals': digest(cf.move, cf.pictures, cf.z_again, cf.logits_again, cf.df()),
        'verdicts': digest(v.table, v.curves, dict(v.coverage), v.words(), v.limits),
        "report's numbers": digest(numbers),
        "report's data": digest(data),
    }


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', help='JSON file to write')
    args = parser.parse_args()
    found = {k: fingerprints(k) for k in kinds}
    print(pd.DataFrame(found).to_string())
    if args.out:
        Path(args.out).write_text(json.dumps(found, indent=1))

"""Do the flags know what the model hasn't learned? `python bench/trust.py` (about 8 minutes on two cores)

Three models as the demo's, each with a split of its own. False alarms: test digits that are flagged by the limits
of the validation set. Detection, by the last of the models: noise, inverted digits, letters and textures drawn by
code.
"""

import string, warnings

import PIL.Image, PIL.ImageDraw, PIL.ImageFont, torch

warnings.filterwarnings('ignore')
from xaaenet.all import *
from xaaenet.demo import *
from _table import Table  # after fastai's names, of which one is the same


def trained(seed):
    "A model, and the validation and test images of its own split"
    train, valid, test = split_items(demo_items()[0], seed=42 + seed)
    set_seed(seed, reproducible=True)
    learn = aae_learner(demo_dls(train, valid), demo_encoder(), encoding_dims=16)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    learn.fit_phases(1, 8, 6, lr=3e-3, save=False)
    return learn, valid, test


def measured(learn, x):
    z, _ = learn.encode(x)
    return z, reconstruction_errors(learn.decode(z), x)


def letter(c, size=32):
    im = PIL.Image.new('L', (size, size))
    PIL.ImageDraw.Draw(im).text((size / 2, size / 2), c, 255, PIL.ImageFont.load_default(26), anchor='mm')
    return torch.from_numpy(np.array(im)) / 255.0


def textures(size=32, n=200):
    "Gratings of random period and direction, half of them squared to stripes"
    g = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing='ij')
    period, angle, phase = (
        torch.rand(3, n, 1, 1, generator=g) * torch.tensor([13.0, math.pi, 2 * math.pi]).view(3, 1, 1, 1)
    ).unbind(0)
    waves = 0.5 + 0.5 * torch.sin(2 * math.pi * (x * angle.cos() + y * angle.sin()) / (period + 3) + phase)
    return torch.where(torch.arange(n)[:, None, None] % 2 == 0, waves, waves.round())[:, None]


table, rng, rates = Table('trust'), np.random.RandomState(0), []
for seed in range(3):
    learn, valid, test = trained(seed)
    rates.append(
        learn.out_of_distribution(test).flagged.mean()
    )  # as a user has it: limits of the validation set, which chose the best epochs
    x = learn.images(valid + test)
    z, errors = measured(learn, x)
    held, halves = learn.latents(dl=learn.dls.test_dl(valid + test, with_labels=True)), []
    for _ in range(100):
        a, b = np.array_split(rng.permutation(len(held)), 2)
        halves.append(
            Reference(learn.reference().train, held[a], errors[a])
            .out_of_distribution(held.z[b], errors[b])
            .flagged.mean()
        )
    table.row(
        f'seed {seed}: false alarms in per cent, limits of the {len(valid)} validation images',
        100 * rates[-1],
        note=f'{len(test)} test images; limits of random halves of both: {100*np.mean(halves):.2f}',
    )
table.row(
    'false alarms in per cent, mean of the seeds',
    100 * np.mean(rates),
    least=0.5,
    most=1.5,
    note='each seed has a split of its own',
)
g, x = torch.Generator().manual_seed(1), learn.images(test)
for name, o in {
    'uniform noise': torch.rand(200, 1, 32, 32, generator=g),
    'digits in noise of σ=0.3': (x[:200] + 0.3 * torch.randn(200, 1, 32, 32, generator=g)).clamp(0, 1),
    'inverted digits': 1 - x,
    'letters': torch.stack([letter(c) for c in string.ascii_uppercase + string.ascii_lowercase])[:, None],
    'textures': textures(),
    'digits upside down': x.flip(2),
    'blank images': torch.zeros(1, 1, 32, 32),
}.items():
    f = learn.out_of_distribution(o)
    by_z, by_picture = (100 * f.because.str.contains(k).mean() for k in ('z', 'picture'))
    table.row(
        f'detected in per cent: {name}',
        100 * f.flagged.mean(),
        note=f'{len(o)} images; by z {by_z:.0f}, by picture {by_picture:.0f}',
    )
table.end()

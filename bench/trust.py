"""Do the flags know what the model hasn't learned? `python bench/trust.py` (about 4 minutes on two cores)

A model as the demo's. False alarms: held-out digits are split at random into a half that sets the limits and a half that is flagged,
100 times. Detection: noise, inverted digits, letters and textures drawn by code, with the limits of all held-out digits."""
import string, warnings

import PIL.Image, PIL.ImageDraw, PIL.ImageFont, torch

warnings.filterwarnings('ignore')
from xaaenet.all import *
from xaaenet.demo import *
from _table import Table # after fastai's names, of which one is the same

train, valid, test = split_items(demo_items()[0])
set_seed(0, reproducible=True)
learn = aae_learner(demo_dls(train, valid), thin_encoder(), encoding_dims=16)
learn.remove_cb(ProgressCallback); learn.logger = noop
learn.fit_phases(1, 8, 6, lr=3e-3, save=False)

def measured(x):
    z, _ = learn.read(x)
    return z, reconstruction_errors(learn.paint(z), x)

def letter(c, size=32):
    im = PIL.Image.new('L', (size, size))
    PIL.ImageDraw.Draw(im).text((size/2, size/2), c, 255, PIL.ImageFont.load_default(26), anchor='mm')
    return torch.from_numpy(np.array(im))/255.

def textures(size=32, n=200):
    "Gratings of random period and direction, half of them squared to stripes"
    g = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing='ij')
    period, angle, phase = (torch.rand(3, n, 1, 1, generator=g) * torch.tensor([13., math.pi, 2*math.pi]).view(3,1,1,1)).unbind(0)
    waves = 0.5 + 0.5*torch.sin(2*math.pi*(x*angle.cos() + y*angle.sin())/(period+3) + phase)
    return torch.where(torch.arange(n)[:,None,None] % 2 == 0, waves, waves.round())[:,None]

held = learn.latents(dl=learn.dls.test_dl(valid + test, with_labels=True))
x = learn.images(valid + test)
_, errors = measured(x)
fit = learn.latents(0)
table, rng = Table('trust'), np.random.RandomState(0)
rates, by = [], []
for _ in range(100):
    a, b = np.array_split(rng.permutation(len(held)), 2)
    f = Reference(fit, held[a], errors[a]).flags(held.z[b], errors[b])
    rates.append(f.flagged.mean()); by.append((f.because.str.contains('z').mean(), f.because.str.contains('picture').mean()))
table.row('false alarms in per cent, mean of 100 random halves', 100*np.mean(rates), least=0.5, most=1.5, note=f'by z {100*np.mean(by, 0)[0]:.2f}, by picture {100*np.mean(by, 0)[1]:.2f}; 95 % of halves {100*np.percentile(rates, 2.5):.1f} to {100*np.percentile(rates, 97.5):.1f}')
reference = Reference(fit, held, errors)
g = torch.Generator().manual_seed(1)
for name,o in {'uniform noise': torch.rand(200, 1, 32, 32, generator=g), 'digits in noise of σ=0.3': (x[:200] + 0.3*torch.randn(200, 1, 32, 32, generator=g)).clamp(0, 1), 'inverted digits': 1 - x,
               'letters': torch.stack([letter(c) for c in string.ascii_uppercase + string.ascii_lowercase])[:,None], 'textures': textures(), 'digits upside down': x.flip(2), 'blank images': torch.zeros(1, 1, 32, 32)}.items():
    f = reference.flags(*measured(o))
    table.row(f'detected in per cent: {name}', 100*f.flagged.mean(), note=f'{len(o)} images; by z {100*f.because.str.contains("z").mean():.0f}, by picture {100*f.because.str.contains("picture").mean():.0f}')
table.end()

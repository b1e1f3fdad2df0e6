"""A cohort with planted evidence: radiograph-like images whose finding, place, size and shortcut are known exactly.

Each patient has a body with two lung fields, textured with patches of real CT, MR and CR images where `pydicom` and
`pydicom-data` are installed (`pip install pydicom pydicom-data`), and with drawn textures else. Sick patients have one
round lesion in a lung field. A letter "L" may stand in a corner, as a shortcut. Sites differ in brightness, contrast,
blur and noise. `python bench/cohort.py sheet.png` draws a contact sheet.
"""
import sys
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

contrast, radii = 0.18, (3., 7.) # of a lesion: its height, and the range of its radius in pixels at 64 px
real_files = ('explicit_VR-UN.dcm', '693_UNCR.dcm', 'MR2_UNCR.dcm', 'RG1_UNCR.dcm', 'RG3_UNCR.dcm',
              'MR-SIEMENS-DICOM-WithOverlays.dcm')

@dataclass
class Cohort:
    "Rows of equal length; all places are in pixels, (y, x)"
    images:np.ndarray  # `[n, size, size]`, float32 in [0, 1], as a file of 8 bits holds it
    clean:np.ndarray   # The same without the lesion
    lesion:np.ndarray  # bool: is there one?
    mask:np.ndarray    # `[n, size, size]`, bool: the lesion
    lungs:np.ndarray   # `[n, size, size]`, bool
    centre:np.ndarray  # `[n, 2]`, of the lesion; NaN where there is none
    radius:np.ndarray  # 0 where there is none
    marker:np.ndarray  # bool: is there a letter?
    letter:np.ndarray  # `[n, size, size]`, bool: where it is, or would be
    site:np.ndarray    # Whole numbers
    patient:np.ndarray # Whole numbers

    def __len__(self): return len(self.images)
    def __getitem__(self, rows): return Cohort(*(getattr(self, f.name)[rows] for f in fields(self)))

@cache
def _real_images():
    "Real images as floats in [0, 1]; none where the packages are missing"
    try:
        import pydicom
        from pydicom.data import get_testdata_file
    except ImportError: return ()
    found = (get_testdata_file(o, download=False) for o in real_files)
    arrays = [pydicom.dcmread(o).pixel_array.astype('float32') for o in found if o]
    limits = [np.percentile(a, (1, 99)) for a in arrays]
    return tuple(np.clip((a - lo) / (hi - lo), 0, 1) for a,(lo,hi) in zip(arrays, limits))

def texture(rng, size):
    "A patch of a real image, or a drawn one, without what is coarser than a lesion; of mean 0 and std 1"
    real = _real_images()
    if real:
        image = real[rng.integers(len(real))]
        side = int(min(image.shape) * rng.uniform(0.3, 0.6))
        y, x = (rng.integers(o - side + 1) for o in image.shape)
        patch = Image.fromarray(image[y:y+side, x:x+side]).resize((size, size), Image.BILINEAR)
        patch = np.asarray(patch)[::rng.choice([1, -1]), ::rng.choice([1, -1])]
    else: patch = sum(gaussian_filter(rng.normal(size=(size, size)), s*size/64) * s for s in (1, 2, 3))
    fine = patch - gaussian_filter(patch, size/16)
    return np.clip(fine / max(fine.std(), 1e-6), -2.5, 2.5)

def _ellipse(grid, centre, radii, power=2.):
    "How far inside of an ellipse each pixel is: 1 at the centre, 0 at the edge, negative outside"
    (y,x), (cy,cx), (ry,rx) = grid, centre, radii
    return 1 - (np.abs((y-cy)/ry)**power + np.abs((x-cx)/rx)**power)**(1/power)

def _soft(inside, radius, edge=0.8):
    "1 inside and 0 outside, with an edge about `edge` pixels wide"
    return 1 / (1 + np.exp(-np.clip(inside*radius/edge*2, -40, 40)))

def _anatomy(rng):
    "What is a patient's own: body and two lungs, as centres and radii for 64 px"
    wide, high = rng.uniform(24, 28), rng.uniform(26, 30)
    gap, lung_y = rng.uniform(10.5, 12.5), rng.uniform(29, 33)
    lungs = [((lung_y + rng.normal(0, .7), 32 + s*gap), (rng.uniform(15, 18), rng.uniform(7.5, 9.5))) for s in (-1, 1)]
    return dict(body=((33., 32.), (high, wide)), power=rng.uniform(2.2, 3.), lungs=lungs,
                tissue=rng.uniform(.48, .56), air=rng.uniform(.2, .26))

def _lesion(rng, lungs):
    "Centre and radius of a lesion that lies in one of the lungs"
    (cy,cx),(ry,rx) = lungs[rng.integers(2)]
    r = rng.uniform(*radii)
    angle, far = rng.uniform(0, 2*np.pi), np.sqrt(rng.uniform(0, 1))
    room = max(ry - r, 0), max(rx - 0.8*r, 0)
    return np.array([cy + far*room[0]*np.sin(angle), cx + far*room[1]*np.cos(angle)]), r

@cache
def _letter(size):
    "The letter L, as a mask in the upper left corner"
    big = Image.new('L', (256, 256))
    ImageDraw.Draw(big).text((14, 6), 'L', font=ImageFont.load_default(46), fill=255)
    return np.asarray(big.resize((size, size), Image.BOX), dtype='float32')/255

def site_look(site):
    "Brightness, contrast, blur and noise of a site"
    return (dict(gain=1., gamma=1., blur=.5, noise=.012), dict(gain=.9, gamma=1.12, blur=.7, noise=.02),
            dict(gain=1.06, gamma=.92, blur=.4, noise=.016))[site]

def draw(rng, size, body, lesion=None, marker=False, site=0, grain=.022):
    "One image with and without its lesion, the lesion's mask, and the lungs' mask"
    s = size/64
    grid = np.mgrid[:size,:size]/s + .5/s - .5
    jitter = rng.normal(0, .8, 2)
    move = lambda c: (c[0]+jitter[0], c[1]+jitter[1])
    fields = [_soft(_ellipse(grid, move(c), r, 2.), min(r)) for c,r in body['lungs']]
    frame = _soft(_ellipse(grid, move(body['body'][0]), body['body'][1], body['power']), 25)
    lungs = np.maximum(*fields)
    clean = .06 + frame * (body['tissue'] + (body['air'] - body['tissue'])*lungs + grain*texture(rng, size))
    if marker: clean = clean*(1-_letter(size)) + .9*_letter(size)
    spot = np.zeros((size, size))
    if lesion is not None: spot = _soft(_ellipse(grid, move(lesion[0]), (lesion[1],)*2), lesion[1])
    look, noise = site_look(site), rng.normal(size=(size, size))
    images = [_expose(o, noise, look, s) for o in (clean + contrast*spot, clean)]
    return *images, spot > .5, lungs > .5, None if lesion is None else np.array(move(lesion[0]))*s + .5*s - .5

def _expose(image, noise, look, s):
    "What the site's machine makes of it, on the 255 levels of a file"
    out = gaussian_filter(np.clip(image, 0, 1), look['blur']*s)
    out = np.clip(out*look['gain'], 0, 1)**look['gamma'] + look['noise']*noise
    return (np.clip(out, 0, 1)*255).round().astype('float32')/255

def cohort(
    n_patients=240, # Half of them with a lesion
    seed=0, # Of everything
    shots=4, # Images a patient
    size=64, # Pixels
    sites=(0, 1), # Of these, in turn; site 2 is the one to hold out
    marker=(0., 0.) # Share of images with the letter: of those without a lesion, and of those with one
):
    "Draw a cohort"
    rng = np.random.default_rng([seed, *sites])
    rows = []
    for p in range(n_patients):
        body, sick, site = _anatomy(rng), p % 2, sites[(p//2) % len(sites)]
        lesion = _lesion(rng, body['lungs']) if sick else None
        for _ in range(shots):
            has = rng.random() < marker[sick]
            image, clean, mask, lungs, centre = draw(rng, size, body, lesion, has, site)
            centre, radius = ((np.nan,)*2, 0.) if lesion is None else (centre, lesion[1]*size/64)
            rows.append((image, clean, bool(sick), mask, lungs, centre, radius, has, _letter(size) > .2, site, p))
    return Cohort(*(np.array(o) for o in zip(*rows)))

def lesion_contrast(pictures, mask, lungs):
    "Mean inside of the lesion less the mean of its lung around it, for each row"
    from scipy.ndimage import binary_dilation
    res = []
    for p,m,l in zip(pictures, mask, lungs):
        ring = binary_dilation(m, iterations=5) & ~binary_dilation(m, iterations=2) & l
        res.append(p[m].mean() - p[ring].mean() if m.any() and ring.any() else np.nan)
    return np.array(res)

def sheet(c, n=24, zoom=3):
    "A contact sheet of the first rows of either kind, as one image"
    rows = np.r_[np.flatnonzero(c.lesion)[:n], np.flatnonzero(~c.lesion)[:n]]
    tiles = [np.pad(c.images[i], 1) for i in rows]
    lines = [np.concatenate(tiles[i:i+12], 1) for i in range(0, len(tiles), 12)]
    whole = Image.fromarray((np.concatenate(lines)*255).astype("uint8"))
    return whole.resize([zoom*o for o in whole.size], 0)

if __name__ == '__main__':
    c = cohort(24, sites=(0, 1, 2), marker=(.1, .8), shots=3)
    print(f'{len(c)} images, {c.lesion.sum()} with a lesion; contrast in the images '
          f'{np.nanmean(lesion_contrast(c.images, c.mask, c.lungs)):.3f}, without the lesion '
          f'{np.nanmean(lesion_contrast(c.clean, c.mask, c.lungs)):.3f}')
    sheet(c).save(sys.argv[1] if len(sys.argv) > 1 else 'cohort.png')

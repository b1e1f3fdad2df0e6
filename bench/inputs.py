"""What do bad and odd images and folders do to a run? `python bench/inputs.py` (about two minutes on one thread)

Each image of a corpus made here lies among 32 good ones. A run must train, or refuse it before training with an
error that names that file and no other; the good images' tensors and predictions must be those of the run without
it, bit by bit. Where fastai's `PILImage` reads other pixels than `AnyImage`, `check_files` must have said so.
"""

import os, shutil, struct, tempfile, time, warnings, zlib

import PIL.Image, PIL.ImageFile, torch

warnings.filterwarnings('ignore')
import sklearn.datasets
from xaaenet.all import *
from xaaenet.data import _check_labels
from xaaenet.images import _inspected
from _table import Table  # after fastai's names, of which one is the same

torch.set_num_threads(1)
table, tmp = Table('inputs'), tempfile.TemporaryDirectory()
out = Path(tmp.name)
photos = [
    PIL.Image.open(Path(sklearn.datasets.__file__).parent / 'images' / f'{n}.jpg').convert('RGB')
    for n in ('china', 'flower')
]
photo = photos[0].crop((200, 100, 360, 220)).resize((56, 42))
gray, rng = np.asarray(photo.convert('L')), np.random.RandomState(0)
mask = PIL.Image.new('L', photo.size)
mask.paste(255, (10, 10, 40, 30))


# the corpus: what makes each file, and whether it can be read
def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(w, h, depth, colour, rows, extra=b''):
    "The bytes of a PNG that Pillow wouldn't write"
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, depth, colour, 0, 0, 0))
        + extra
        + chunk(b'IDAT', zlib.compress(b''.join(b'\0' + r for r in rows)))
        + chunk(b'IEND', b'')
    )


def saved(im, kind, **kwargs):
    f = io.BytesIO()
    im.save(f, kind, **kwargs)
    return f.getvalue()


def cut(data, share):
    return data[: int(len(data) * share)]


def orient(o):
    exif = PIL.Image.Exif()
    exif[274] = o
    return saved(photo, 'JPEG', exif=exif)


jpg, prog, as_png = saved(photo, 'JPEG'), saved(photo, 'JPEG', progressive=True), saved(photo, 'PNG')
rgba, la, few = photo.copy(), PIL.Image.merge('LA', (photo.convert('L'), mask)), photo.quantize(16)
rgba.putalpha(mask)
deep = gray.astype(np.uint16) * 257
frames = dict(save_all=True, append_images=[photo.rotate(90), photo.rotate(180)])
bad = {
    'empty.png': b'',
    'empty.jpg': b'',
    'page.jpg': b'<html><body>404 Not Found</body></html>',
    'noise.png': rng.bytes(3000),
    'zeros.jpg': bytes(2000),
    'signature.png': as_png[:8],
    'header.jpg': jpg[:20],
    'cut-half.png': cut(as_png, 0.5),
    'cut-end.png': cut(as_png, 0.97),
    'cut-half.jpg': cut(jpg, 0.5),
    'cut-end.jpg': cut(jpg, 0.97),
    'cut-progressive.jpg': cut(prog, 0.6),
    'no-end.jpg': jpg[:-2],
    'cut.gif': cut(saved(few, 'GIF'), 0.5),
    'cut.webp': cut(saved(photo, 'WEBP'), 0.5),
    'cut.tif': cut(saved(photo, 'TIFF'), 0.5),
    'cut.bmp': cut(saved(photo, 'BMP'), 0.5),
    'checksum.png': as_png[:60] + bytes([as_png[60] ^ 255]) + as_png[61:],
    'float.tif': saved(PIL.Image.fromarray(gray.astype(np.float32)), 'TIFF'),
    'beyond.tif': saved(PIL.Image.fromarray(gray.astype(np.int32) * 100000), 'TIFF'),
    'below.tif': saved(PIL.Image.fromarray(gray.astype(np.int32) - 50), 'TIFF'),
    'bomb.png': png(30000, 30000, 1, 0, [bytes(3750)] * 10),
    'no-width.png': png(0, 10, 8, 2, [b''] * 10),
    'vector.png': b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    'paper.jpg': b'%PDF-1.4\n%%EOF',
    'script.png': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n',
    'packed.png': b'PK\x03\x04' + bytes(60),
    '._resource.jpg': b'\0\x05\x16\x07' + bytes(100),
    'array.png': b'\x93NUMPY\x01\0' + bytes(80),
    'gone.png': None,
    'folder.png': Path.mkdir,
    'pipe.png': os.mkfifo,
    'dangling.png': lambda f: f.symlink_to(out / 'nowhere'),
    'loop.png': lambda f: f.symlink_to(f),
}
if os.getuid():
    bad['forbidden.png'] = lambda f: (f.write_bytes(as_png), f.chmod(0))
odd = {
    'palette.png': saved(few, 'PNG'),
    'palette-index.png': saved(few, 'PNG', transparency=few.getpixel((20, 20))),
    'palette-alpha.png': saved(few, 'PNG', transparency=bytes(range(0, 256, 16))),
    'alpha.png': saved(rgba, 'PNG'),
    'opaque.png': saved(photo.convert('RGBA'), 'PNG'),
    'gray-alpha.png': saved(la, 'PNG'),
    'colour-key.png': saved(photo, 'PNG', transparency=photo.getpixel((5, 5))),
    'gray-key.png': saved(photo.convert('L'), 'PNG', transparency=int(gray[5, 5])),
    'alpha.webp': saved(rgba, 'WEBP', lossless=True),
    'alpha.tif': saved(rgba, 'TIFF'),
    'bit.png': saved(photo.convert('1'), 'PNG'),
    'fax.tif': saved(photo.convert('1'), 'TIFF', compression='group4'),
    'deep.png': saved(PIL.Image.fromarray(deep), 'PNG'),
    'deep.tif': saved(PIL.Image.fromarray(deep), 'TIFF'),
    'deep-big-endian.tif': saved(PIL.Image.fromarray(deep.astype('>u2')), 'TIFF'),
    'deep.pgm': b'P5 %d %d 65535\n' % photo.size + deep.astype('>u2').tobytes(),
    'deep-colour.png': png(
        *photo.size, 16, 2, [r.astype('>u2').tobytes() for r in np.asarray(photo).astype(np.uint16) * 257]
    ),
    'int32.tif': saved(PIL.Image.fromarray(deep.astype(np.int32)), 'TIFF'),
    'lab.tif': saved(PIL.Image.frombytes('LAB', (8, 8), bytes(192)), 'TIFF'),
    'ink.jpg': saved(photo.convert('CMYK'), 'JPEG'),
    'ink.tif': saved(photo.convert('CMYK'), 'TIFF'),
    'video.tif': saved(photo.convert('YCbCr'), 'TIFF'),
    'gray.jpg': saved(photo.convert('L'), 'JPEG'),
    'progressive.jpg': prog,
    **{f'orientation-{o}.jpg': orient(o) for o in (1, 2, 3, 4, 5, 6, 7, 8, 9)},
    'bad-exif.jpg': saved(photo, 'JPEG', exif=b'Exif\0\0II*\0\xff\xff\xff\x7f'),
    'junk-exif.jpg': saved(photo, 'JPEG', exif=b'Exif\0\0' + rng.bytes(80)),
    'trailing.jpg': jpg + rng.bytes(500),
    'moving.gif': saved(few, 'GIF', save_all=True, append_images=[few.rotate(90)]),
    'moving.png': saved(photo, 'PNG', **frames),
    'moving.webp': saved(photo, 'WEBP', lossless=True, **frames),
    'pages.tif': saved(photo, 'TIFF', **frames),
    'double.mpo': saved(photo, 'MPO', **frames),
    'wrong-name.png': jpg,
    'no-name': as_png,
    'icon.ico': saved(photo, 'ICO'),
    'vector.jp2': saved(photo, 'JPEG2000'),
    'one.png': saved(photo.resize((1, 1)), 'PNG'),
    'thin.png': saved(photo.resize((400, 1)), 'PNG'),
    'large.png': saved(PIL.Image.new('L', (5000, 5000), 7), 'PNG'),
    'spa ce-ü-日本-\n.png': as_png,
    'long-' + 'x' * 200 + '.png': as_png,
    'linked.png': lambda f: f.symlink_to(good[0]),
}
exact = {
    'palette.png': few.convert('RGB'),
    'opaque.png': photo,
    'deep.png': gray,
    'deep.tif': gray,
    'deep-big-endian.tif': gray,
    'deep.pgm': gray,
    'deep-colour.png': photo,
    'int32.tif': gray,
    'bit.png': photo.convert('1').convert('RGB'),
    'fax.tif': photo.convert('1').convert('RGB'),
    'alpha.png': np.where(np.asarray(mask)[..., None] > 0, np.asarray(photo), 0),
    'alpha.webp': np.where(np.asarray(mask)[..., None] > 0, np.asarray(photo), 0),
    'alpha.tif': np.where(np.asarray(mask)[..., None] > 0, np.asarray(photo), 0),
    'gray-alpha.png': np.where(np.asarray(mask) > 0, gray, 0),
    'colour-key.png': np.where(
        (np.asarray(photo) == photo.getpixel((5, 5))).all(-1, keepdims=True), 0, np.asarray(photo)
    ),
    'gray-key.png': np.where(gray == gray[5, 5], 0, gray),
    'moving.png': photo,
    'moving.webp': photo,
    'pages.tif': photo,
    'moving.gif': few.convert('RGB'),
}
exact.update(
    {
        f'orientation-{o}.jpg': np.asarray(PIL.Image.open(io.BytesIO(jpg)).transpose(PIL.Image.Transpose(t)))
        for o, t in {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.items()
    }
)

good = [out / f'{"valid" if i%4 == 3 else "train"}-{i}.png' for i in range(32)]
for i, f in enumerate(good):
    photos[i % 2].crop((9 * i, 5 * i, 9 * i + 120, 5 * i + 90)).resize((56, 42)).save(f)


def place(name, what):
    if callable(what):
        what(out / name)
    elif what is not None:
        (out / name).write_bytes(what)
    return out / name


files = {n: place(n, w) for n, w in {**bad, **odd}.items()}


# the run
def encoder():
    return nn.Sequential(*[ConvLayer(i, o, stride=2) for i, o in ((3, 8), (8, 16), (16, 32))])


def make_dls(
    items, cls=AnyImage, tfms=Resize(32), block=CategoryBlock, split=lambda o: o[0].name.startswith('valid')
):
    return DataBlock(
        (ImageBlock(cls), block), getters=[ItemGetter(0), ItemGetter(1)], splitter=FuncSplitter(split), item_tfms=tfms
    ).dataloaders(items, bs=8, num_workers=0)


def train(dls, **kwargs):
    set_seed(0)  # of the encoder's weights
    learn = aae_learner(dls, encoder(), encoding_dims=4, seed=0, **kwargs).remove_cb(ProgressCallback)
    learn.logger = noop
    learn.fit_phases(0, 0, 1, save=False)
    return learn


def label(i):
    return 'ab'[i % 2]


items = [(f, label(i)) for i, f in enumerate(good)]


def among(*more):
    return items[:5] + [(f, label(i)) for i, f in enumerate(more)] + items[5:]


def outcome(f):
    "'trained', 'refused' (in words), or what crashed; and the error"
    try:
        return 'trained', f()
    except (ValueError, FileNotFoundError) as e:
        return 'refused', e
    except Exception as e:
        return f'{type(e).__name__}: {e}'[:90], e


def weights(learn):
    return {k: v.clone() for k, v in learn.model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


reference = train(make_dls(items))


def seen(more=()):
    "Tensors and predictions of the good images, with `more` read and predicted beside them"
    dl = reference.dls.test_dl([*good, *more])
    x = torch.cat([b[0] for b in dl])[: len(good)]
    return x.as_subclass(torch.Tensor), reference.get_preds(dl=dl)[0][: len(good)]


tensors, preds, final = *seen(), weights(reference)

table.say(f'{len(bad)} images that can\'t be read and {len(odd)} odd ones, each among {len(good)} good ones')
table.row('bad and odd images', len(bad) + len(odd), least=40)
crashed, unnamed, changed, silent, noisy, wrong = [], [], [], [], [], []
for n, f in files.items():
    got, e = outcome(lambda: train(make_dls(among(f))))
    expected = 'refused' if n in bad else 'trained'
    if got != expected:
        crashed.append(f'{n}: {got}, not {expected}')
    if n in bad:
        if getattr(e, 'files', {}).keys() != {f} or f.name not in str(e):
            unnamed.append(n)
        continue
    if got != expected:
        continue
    x, p = seen([f])
    if not (torch.equal(x, tensors) and torch.equal(p, preds)):
        changed.append(n)
    ours, theirs = (np.asarray(c.create(f)) for c in (AnyImage, PILImage))
    said = set(check_files([f]).get(f, '').split('; ')) - {''}
    other = ours.shape != theirs.shape or (ours != theirs).any()
    if other and not any('PILImage' in o for o in said):
        silent.append(n)
    if not other and any('PILImage' in o for o in said):
        noisy.append(n)
    if n in exact and not np.array_equal(
        ours,
        (
            np.broadcast_to(np.asarray(exact[n])[..., None], ours.shape)
            if np.asarray(exact[n]).ndim == 2
            else np.asarray(exact[n])
        ),
    ):
        wrong.append(n)


def names(l):
    return ', '.join(l)


table.row('  a run that neither trains nor refuses as it should', len(crashed), most=0, note=names(crashed))
table.row('  bad ones not named, or another named with them', len(unnamed), most=0, note=names(unnamed))
table.row("  odd ones that change a good image's tensor or prediction", len(changed), most=0, note=names(changed))
table.row(f'  read wrongly, of {len(exact)} whose pixels are known', len(wrong), most=0, note=names(wrong))
table.row('  read otherwise by PILImage, and not said', len(silent), most=0, note=names(silent))
table.row('  said to be misread by PILImage, and not so', len(noisy), most=0, note=names(noisy))

table.say('all bad ones at once')
got, e = outcome(lambda: train(make_dls(among(*(files[n] for n in bad)))))
table.row('  not in the one error', len(bad) - len(getattr(e, 'files', ())) if got == 'refused' else len(bad), most=0)
rest = [o for o in among(*(files[n] for n in bad)) if o[0] not in e.files]
table.row(
    '  without them: weights that differ from the run that had none',
    int(not same(weights(train(make_dls(rest))), final)),
    most=0,
)
table.row(
    '  the same, check_files=False', int(not same(weights(train(make_dls(items), check_files=False)), final)), most=0
)


# folders and tables
def tree(name, **classes):
    for c, fs in classes.items():
        (out / name / c).mkdir(parents=True)
        for f in fs:
            shutil.copy(f, out / name / c / f.name)
    return out / name


def from_folder(d, tfms=Resize(32)):
    return make_dls([(f, f.parent.name) for f in sorted(get_image_files(d))], tfms=tfms)


even, uneven = good[::2], good[1::2]
frame = pd.DataFrame(
    dict(
        file=good,
        label=[label(i) for i in range(len(good))],
        score=np.linspace(0, 1, len(good)),
        tags=['a b', 'b'] * (len(good) // 2),
    )
)


def from_frame(df, y='label', block=CategoryBlock, delim=None):
    return DataBlock(
        (ImageBlock(AnyImage), block),
        get_x=ColReader('file'),
        get_y=ColReader(y, label_delim=delim),
        splitter=IndexSplitter(range(3, len(good), 4)),
        item_tfms=Resize(32),
    ).dataloaders(df, bs=8, num_workers=0)


def with_(col, row, value):
    df = frame.astype({col: object})
    df.at[row, col] = value
    return df


photo.resize((60, 42)).save(out / 'train-wide.png')
cases = {  # what is run, what must come of it, and a word that the error or warning must hold
    'an empty folder': (lambda: check_files(tree('none', a=[])), 'refused', 'none'),
    'a folder that is not there': (lambda: check_files(out / 'nowhere'), 'refused', 'nowhere'),
    'an empty class folder': (
        lambda: (check_files(d := tree('hollow', a=even, b=uneven, c=[])), train(from_folder(d))),
        'trained',
        'hollow/c',
    ),
    'a class with one image': (
        lambda: train(make_dls(among() + [(files['palette.png'], 'c')])),
        'trained',
        'Class c',
    ),
    'a class with one image, in the validation set': (
        lambda: train(make_dls([(f, 'c' if f == good[3] else y) for f, y in items])),
        'refused',
        'c is a class',
    ),
    'a class of the vocabulary without an image': (
        lambda: train(make_dls(items, block=CategoryBlock(vocab=['a', 'b', 'z']))),
        'trained',
        'Class z',
    ),
    'one class only': (lambda: train(make_dls([(f, 'a') for f, _ in items])), 'refused', 'one class'),
    'a label missing: NaN': (lambda: train(from_frame(with_('label', 4, np.nan))), 'refused', 'row 4'),
    'a label missing: None, where the vocabulary is given': (
        lambda: train(from_frame(with_('label', 5, None), block=CategoryBlock(vocab=['a', 'b']))),
        'refused',
        'row 5',
    ),
    'a label missing in the validation set': (
        lambda: train(from_frame(with_('label', 7, np.nan))),
        'refused',
        'row 7',
    ),
    'a score that is NaN': (
        lambda: train(from_frame(with_('score', 6, np.nan).astype({'score': float}), 'score', RegressionBlock)),
        'refused',
        'row 6',
    ),
    'a score that is infinite': (
        lambda: train(from_frame(with_('score', 8, np.inf).astype({'score': float}), 'score', RegressionBlock)),
        'refused',
        'row 8',
    ),
    'labels, one unknown to the training set': (
        lambda: train(from_frame(with_('tags', 3, 'a new'), 'tags', MultiCategoryBlock, ' ')),
        'refused',
        'new',
    ),
    'scores': (lambda: train(from_frame(frame, 'score', RegressionBlock)), 'trained', ''),
    'labels, of which an image may have none': (
        lambda: train(from_frame(with_('tags', 2, ''), 'tags', MultiCategoryBlock, ' ')),
        'trained',
        '',
    ),
    'a row of a table whose file is missing': (
        lambda: train(from_frame(with_('file', 9, out / 'train-lost.png'))),
        'refused',
        'train-lost.png',
    ),
    'mixed sizes, resized': (lambda: train(make_dls(among(out / 'train-wide.png'))), 'trained', ''),
    'mixed sizes, not resized': (
        lambda: train(make_dls(among(out / 'train-wide.png'), tfms=[])),
        'refused',
        'train-wide.png',
    ),
    'not square': (lambda: train(make_dls(items, tfms=Resize((32, 48)))), 'trained', ''),
    'one file in many items': (lambda: train(make_dls(items + [items[0]] * 8)), 'trained', ''),
    'a bad file in many items': (
        lambda: train(make_dls(items + [(files['empty.png'], 'a')] * 8)),
        'refused',
        '1 file ',
    ),
    'fewer images than a batch': (lambda: train(make_dls(items[:8])), 'refused', 'smaller batch size'),
    'no validation set': (lambda: train(make_dls(items, split=lambda o: False)), 'refused', 'validation set'),
    'a bad file that fastai opens first': (
        lambda: train(make_dls([(files['cut-half.png'], 'a')] + items)),
        'refused',
        'cut-half.png',
    ),
}
table.say('folders and tables')
failed, mute = [], []
for n, (f, expected, word) in cases.items():
    with warnings.catch_warnings(record=True) as w:
        warnings.simplefilter('always')
        got, e = outcome(f)
    if got != expected:
        failed.append(f'{n}: {got}, not {expected}' + (f' ({e})' if got == 'refused' else ''))
    elif word not in (str(e) if got == 'refused' else ' '.join(str(o.message) for o in w)):
        mute.append(n)
table.row('  kinds', len(cases))
table.row('  a run that neither trains nor refuses as it should', len(failed), most=0, note=names(failed))
table.row('  where the error or warning does not name it', len(mute), most=0, note=names(mute))

table.say('time, of a photograph of 640 × 427 pixels')


def per_file(f, paths, repeats=3, anew=True):
    "Milliseconds a file, the best of some turns, in which the files are new or known already"
    best = math.inf
    for _ in range(repeats):
        if anew:
            _inspected.clear()
        start = time.perf_counter()
        f(paths)
        best = min(best, time.perf_counter() - start)
    return best * 1000 / len(paths)


for kind in ('jpg', 'png'):
    paths = [out / f'{i}-time.{kind}' for i in range(20)]
    for i, f in enumerate(paths):
        photos[i % 2].save(f, **({'quality': 90} if kind == 'jpg' else {}))
    checked, alone, read = (
        per_file(check_files, paths),
        per_file(partial(check_files, n_workers=1), paths),
        per_file(lambda ps: [PILImage.create(p) for p in ps], paths),
    )
    check_files(paths)
    again = per_file(check_files, paths, anew=False)
    table.row(f'  {kind}: ms to read with PILImage', read)
    table.row(f'  {kind}: ms to check in 8 threads, of {os.cpu_count()} cores', checked)
    table.row(
        f'  {kind}: ms to check in one thread, as a share of reading',
        alone / read,
        most=0.6 if kind == 'jpg' else 1.3,
    )
    table.row(f'  {kind}: ms to check again', again, most=read / 10)
memory = make_dls([(np.asarray(photo), label(i)) for i in range(5000)], split=lambda o: False)
rows = from_frame(pd.concat([frame] * 100, ignore_index=True))
check_files(rows)
for n, f, x in (
    ('in memory', check_files, memory),
    ('known already, by rows of a table', check_files, rows),
    ('labels, in memory', _check_labels, memory),
    ('labels, by rows of a table', _check_labels, rows),
):
    start = time.perf_counter()
    f(x)
    table.row(
        f'  {n}: µs an item',
        (time.perf_counter() - start) * 1e6 / sum(dl.n for dl in x.loaders),
        most={'in memory': 5}.get(n),
    )
tmp.cleanup()
table.end()

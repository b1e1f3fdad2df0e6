"""Which loss orders best? `python bench/severity.py` (about 16 minutes on two cores)

Squared error, ordinal loss, and both, on two real targets of scikit-learn's digits that need no download: the slant
of a digit in degrees (measured on its pixels), and the digit itself as a grade from 0 to 9. Test images are used
for neither training nor choosing epochs.
"""

import warnings

warnings.filterwarnings('ignore')
from sklearn.model_selection import train_test_split
from scipy.stats import spearmanr
from xaaenet.all import *
from xaaenet.demo import *
from _table import Table  # after fastai's names, of which one is the same

arrays, labels = zip(*demo_items()[0])

targets = dict(slant=np.array([slant(a) for a in arrays]), grade=np.array([int(o) for o in labels], dtype=float))
rest, test = train_test_split(range(len(arrays)), test_size=0.2, random_state=42, stratify=labels)
train, valid = train_test_split(rest, test_size=0.1, random_state=42)


def trained(y, loss, seed=0):
    items = [(arrays[i], np.float32(y[i])) for i in [*train, *valid]]
    dls = DataBlock(
        (ImageBlock(PILImageBW), RegressionBlock),
        getters=[ItemGetter(0), ItemGetter(1)],
        item_tfms=Resize(32),
        splitter=IndexSplitter(range(len(train), len(items))),
    ).dataloaders(items, bs=64)
    set_seed(seed, reproducible=True)
    learn = aae_learner(dls, demo_encoder(), encoding_dims=16, loss_func=loss)
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    learn.fit_phases(1, 5, 6, lr=3e-3, save=False)
    return learn


table = Table('severity')
for name, y in targets.items():
    y = (y - y[train].mean()) / y[train].std()
    for label, loss in (
        ('squared error', OrdinalLoss(0.0)),
        ('ordinal', OrdinalLoss(mse=0.0)),
        ('both', OrdinalLoss()),
    ):
        learn = trained(y, loss)
        lat = learn.latents(dl=learn.dls.test_dl([(arrays[i], np.float32(y[i])) for i in test], with_labels=True))
        s, t = lat.logits[:, 0], lat.targets.flatten()
        table.row(
            f'{name}, {label}: ordinal error (random order 0.5)',
            ordinal_error(s, t),
            note=f'Spearman {spearmanr(s, t)[0]:.3f}, R² {1 - ((s-t)**2).mean()/t.var():.3f}, '
            f'MS-SSIM {ms_ssim(learn.decode(lat.z), learn.images([(arrays[i], 0.) for i in test])).item():.3f}',
        )
table.end()

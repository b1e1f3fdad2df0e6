"""Write the checkpoints of this version, which later versions have to go on loading.

`python bench/fixtures.py`, once a release (they are tested in nbs/03e_resume.ipynb)

The learners are those of the notebook's own test, so that the files fit it.
"""

import json, shutil, tempfile, warnings
from pathlib import Path

warnings.filterwarnings('ignore')
from xaaenet.all import *
from xaaenet.test_utils import *
import xaaenet

nbs = Path(__file__).parent.parent / 'nbs'
cells = [
    ''.join(c['source'])
    for c in json.loads((nbs / '03e_resume.ipynb').read_text())['cells']
    if c['cell_type'] == 'code'
]


def defined(text, until):
    "The beginning, up to `until`, of the cell of the notebook that holds `text`"
    return next(c for c in cells if text in c and not c.startswith('#| export')).split(until)[0]


exec(defined('def first_version', 'with tempfile'))


class Interrupt(Callback):
    def after_batch(self):
        if self.training and self.train_iter == 5:
            raise KeyboardInterrupt


with tempfile.TemporaryDirectory() as d:
    aae, net = first_version(d)
    for l in (aae, net):
        l.logger = noop
        l.remove_cb(ProgressCallback)
    aae.fit_phases(0, 0, 3, lr=1e-2, seed=0)
    set_seed(0)
    try:
        net.fit_one_cycle(3, 0.1, cbs=[ResumeCallback(every=2), Interrupt()])
    except KeyboardInterrupt:
        pass
    for name, f in (
        ('phase', aae.phase_file('classifier')),
        ('fit', Path(d) / 'models/resume-1-00000004.safetensors'),
    ):
        shutil.copy(f, to := nbs / 'fixtures' / f'{name}-{xaaenet.__version__}.safetensors')
        print(to.name, to.stat().st_size, 'bytes')

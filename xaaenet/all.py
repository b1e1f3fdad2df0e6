"""Everything, as `fastai.vision.all` gives it: `from xaaenet.all import *`

Three of fastai's names mean something else here: `DynamicUnet` and `UnetBlock` are the decoder with dropped skips, and
`default_device` only returns the best device. fastai's own stay at `fastai.vision.models.unet` and
`fastai.torch_core`."""
from fastai.vision.all import *
from xaaenet.names import shown_name, original_name
from xaaenet.tasks import tasks, Task, as_task, loss_task, target_task
from xaaenet.encoders import *
from xaaenet.swaps import Swaps
from xaaenet.model import *
from xaaenet.onnx import *
from xaaenet.batches import *
from xaaenet.images import *
from xaaenet.forms import *
from xaaenet.data import *
from xaaenet.callbacks import *
from xaaenet.progress import *
from xaaenet.checkpoint import *
from xaaenet.distributed import *
from xaaenet.resume import *
from xaaenet.hardware import *
from xaaenet.phases import *
from xaaenet.phase_files import *
from xaaenet.phase_fit import *
from xaaenet.learner import *
from xaaenet.rates import *
from xaaenet.start import * # gives the learner its `warm_start`
from xaaenet.latents import *
from xaaenet.stats import *
from xaaenet.reference import *
from xaaenet.newness import *
from xaaenet.export import * # gives the learner its `export`
from xaaenet.axis import *
from xaaenet.explain import *
from xaaenet.attributions import *
from xaaenet.where import Where # gives the learner its `where`
from xaaenet.evidence import EvidenceKept # gives the learner its `evidence_kept`
from xaaenet.second_reader import SecondReader # gives the learner its `second_reader`
from xaaenet.dose import Dose # gives walks their `dose`
from xaaenet.prototypes import *
from xaaenet.maps import *
from xaaenet.cues import *
from xaaenet.association import *
from xaaenet.edits import *
from xaaenet.verdicts import *
from xaaenet.verdict_plots import *
from xaaenet.health import Health # gives the learner its `health`
from xaaenet.report import *

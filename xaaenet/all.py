"""Everything, as `fastai.vision.all` gives it: `from xaaenet.all import *`

Three of fastai's names mean something else here: `DynamicUnet` and `UnetBlock` are the decoder with dropped skips, and
`default_device` only returns the best device. fastai's own stay at `fastai.vision.models.unet` and `fastai.torch_core`."""
from fastai.vision.all import *
from xaaenet.model import *
from xaaenet.learner import *
from xaaenet.explain import *
from xaaenet.cues import *
from xaaenet.report import *

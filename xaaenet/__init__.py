"""Adversarial autoencoders with latent explanations for image classifiers, as fastai learners

Modules:

- `xaaenet.all`: Everything, as `fastai.vision.all` gives it: `from xaaenet.all import *`"""

__version__ = "0.0.1"

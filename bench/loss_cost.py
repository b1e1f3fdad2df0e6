"""What the reconstruction loss costs of an autoencoder step: `python bench/loss_cost.py`

ResNet34, 256 px, batch 8: forward and backward of the loss alone, over a step of the whole model."""

import statistics, time, warnings

import torch

warnings.filterwarnings('ignore')
from _table import Table
from xaaenet.model import AAE, reconstruction_loss

table = Table('loss_cost')
torch.manual_seed(0)
device = 'cuda' if torch.cuda.is_available() else 'cpu'
model, x = AAE(pretrained=False).to(device).train(), torch.rand(8, 3, 256, 256, device=device)
opt = torch.optim.Adam(model.parameters())


def step():
    loss = model.ae_loss_func(model(x))
    loss.backward()
    opt.step()
    opt.zero_grad(set_to_none=True)


def loss_alone():
    reconstruction_loss(torch.rand_like(x).requires_grad_(), x).backward()


def seconds(f):
    if device == 'cuda':
        torch.cuda.synchronize()
    t = time.perf_counter()
    f()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - t


for f in (step, loss_alone):
    f()
times = [(seconds(step), seconds(loss_alone)) for _ in range(5)]  # interleaved, so that both meet the same machine
whole, loss = (statistics.median(o) for o in zip(*times))
table.row('autoencoder step, s', whole)
table.row('reconstruction loss, forward and backward, s', loss)
table.row('share of the step', statistics.median(b / a for a, b in times), most=0.1)
table.end()

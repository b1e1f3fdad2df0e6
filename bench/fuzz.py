"""Does any configuration do something else than train, or be refused in a sentence? `python bench/fuzz.py [EXAMPLES]` (500; about 10 minutes on one core; needs `pip install hypothesis timm`)

Hypothesis draws sizes, channels, latent dimensions, targets, encoders good and bad, skip dropout, precision, batch sizes, loss weights, settings of the phases, and images that aren't in [0, 1].
Each example either takes training steps in all three phases, with finite losses and the right shapes, or raises one of the errors below. Anything else fails, and Hypothesis looks for the smallest example that does."""
import collections, re, sys, warnings

warnings.filterwarnings('ignore')
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchLoader, TensorDataset
from hypothesis import HealthCheck, given, settings, strategies as st
from torchvision.models import resnet18
from xaaenet.all import *
from _table import Table

torch.set_num_threads(1)

# what the pages say about bad input: type and words of each error
documented = [(t, re.compile(w)) for t,w in (
    (ValueError, r'MS-SSIM needs at least 11 px'), (ValueError, r'`skip_dropout` is a probability'), (ValueError, r'would scale what it lets through'),
    (ValueError, r'not a feature map \[B, F, h, w\]'), (ValueError, r'pools its feature map away'), (ValueError, r'are smaller than .* allows'),
    (ValueError, r"can't take images of .* channels"), (ValueError, r'is no timm network'), (ValueError, r"timm can't make"), (TypeError, r'`arch` must be a constructor'),
    (ValueError, r'Pixel values must be in \[0, 1\]'), (TypeError, r'floats in \[0, 1\] are needed'), (ValueError, r"don't fill one batch|doesn't fill one batch"),
    (ValueError, r"z can't be normalised over one"), (ValueError, r'Each side needs a step'), (ValueError, r'A phase needs an epoch'), (ValueError, r'is a whole number, 1 or more'), (ValueError, r"nothing to tell apart"), (FloatingPointError, r"isn't a finite number"))]

class Bare(nn.Module):
    "An encoder that isn't `Sequential`, with a skip of its own"
    def __init__(self, n_in, nf): super().__init__(); self.a,self.b,self.c = ConvLayer(n_in, nf, stride=2), ConvLayer(nf, nf), ConvLayer(nf, nf, stride=2)
    def forward(self, x): x = self.a(x); return self.c(x + self.b(x))
class Pairs(nn.Module):
    def __init__(self, n_in): super().__init__(); self.a = ConvLayer(n_in, 4, stride=2)
    def forward(self, x): x = self.a(x); return x, x
class Lines(nn.Module):
    "Rows of features without a grid, as a transformer has them"
    def __init__(self, n_in): super().__init__(); self.a = ConvLayer(n_in, 4, stride=4)
    def forward(self, x): return self.a(x).flatten(2).transpose(1, 2)

conv = lambda i,o,s=2,**k: ConvLayer(i, o, stride=s, **k)
archs = dict(
    plain=lambda c: nn.Sequential(conv(c,4), conv(4,8), conv(8,8)), deep=lambda c: nn.Sequential(conv(c,4), conv(4,4,1), conv(4,8), conv(8,8,1), conv(8,8), conv(8,8)),
    stride3=lambda c: nn.Sequential(conv(c,4,3,ks=5), conv(4,8,3)), flat=lambda c: nn.Sequential(conv(c,4,1), conv(4,4,1)), valid=lambda c: nn.Sequential(conv(c,4,2,padding=0), conv(4,8,2,padding=0)),
    no_norm=lambda c: nn.Sequential(nn.Conv2d(c, 4, 3, 2, 1), nn.GELU(), nn.Conv2d(4, 8, 3, 2, 1)), bare=lambda c: Bare(c, 6), pooled=lambda c: nn.Sequential(conv(c,4), nn.MaxPool2d(2), conv(4,8)),
    resnet=lambda c: resnet18, timm=lambda c: 'mobilenetv3_small_050', one_channel=lambda c: nn.Sequential(conv(1,4), conv(4,8)),
    vector=lambda c: nn.Sequential(conv(c,4), nn.Flatten()), pool1=lambda c: nn.Sequential(conv(c,4), nn.AdaptiveAvgPool2d(1)), pairs=Pairs, lines=Lines, misspelt=lambda c: 'resnet1008', number=lambda c: 34)

side = st.one_of(st.integers(11, 64), st.integers(1, 96))
weight = st.one_of(st.none(), st.sampled_from([0., 0.1, 1., 10.]))
good = st.fixed_dictionaries(dict(
    height=side, width=st.one_of(st.none(), side), channels=st.integers(1, 5), dims=st.integers(1, 48), task=st.sampled_from(['category', 'labels', 'score']), outputs=st.integers(2, 9),
    arch=st.sampled_from(['plain', 'deep', 'stride3', 'flat', 'valid', 'no_norm', 'bare', 'pooled', 'plain', 'deep', 'bare', 'resnet', 'timm']), dropout=st.sampled_from([1, 1., 0., 0.3, 0.9]),
    precision=st.sampled_from(['fp32', 'fp32', 'bf16', 'fp16']), bs=st.integers(2, 24), batches=st.integers(1, 2), rest=st.sampled_from([0, 0, 2, 3]), images=st.just('good'), lr=st.sampled_from([1e-4, 1e-3, 1e-2]),
    n_disc=st.integers(1, 2), n_gen=st.integers(1, 2), adaptive=st.booleans(), noise=st.sampled_from([0., 0.1, 0.5]), mask=st.sampled_from([0., 0.25, 1.]), rec=weight, adv=weight, cov=weight, pred=weight, cons=weight))
wrong = [('outputs', 1), ('dims', 0), ('dims', -1), ('dropout', -0.1), ('dropout', 0.95), ('dropout', 1.5), ('bs', 1), ('rest', 1), ('images', 'bytes'), ('images', 'large'), ('images', 'negative'), ('images', 'nan'),
         ('n_disc', 0), ('noise', -1.), *(('arch', o) for o in ('one_channel', 'vector', 'pool1', 'pairs', 'lines', 'misspelt', 'number'))]
configs = st.tuples(good, st.sampled_from([None]*40 + wrong)).map(lambda o: {**o[0], **dict([o[1]] if o[1] else [])})

def loaders(c, size):
    n, g = c['bs']*c['batches'] + c['rest'], torch.Generator().manual_seed(0)
    x = torch.rand(n, c['channels'], *size, generator=g)
    if c['images'] != 'good': x = dict(bytes=lambda: (x*255).byte(), large=lambda: x*255, negative=lambda: x*2-1, nan=lambda: x/0*0)[c['images']]()
    y = dict(category=lambda: torch.randint(c['outputs'], (n,), generator=g), labels=lambda: torch.randint(2, (n, c['outputs']), generator=g).float(), score=lambda: torch.rand(n, c['outputs'], generator=g))[c['task']]()
    dl = lambda: TorchLoader(TensorDataset(x, y), c['bs'])
    return DataLoaders(dl(), dl())

def build(c):
    size = (c['height'], c['width'] or c['height'])
    loss = dict(category=CrossEntropyLossFlat, labels=BCEWithLogitsLossFlat, score=MSELossFlat)[c['task']]()
    learn = aae_learner(loaders(c, size), archs[c['arch']](c['channels']), pretrained=False, n_out=c['outputs'], loss_func=loss, encoding_dims=c['dims'], skip_dropout=c['dropout'], seed=0)
    learn.remove_cb(ProgressCallback); learn.logger = noop
    return {'fp32': lambda: learn, 'bf16': learn.to_bf16, 'fp16': learn.to_fp16}[c['precision']](), size

def train(c):
    learn, size = build(c)
    losses = []
    class Losses(Callback):
        def after_loss(self): losses.append(self.loss.item())
    w = {f'{k}_weight': c[k] for k in ('rec', 'adv', 'cov', 'pred', 'cons')}
    learn.fit_phases(1, 1, 1, lr=c['lr'], save=False, cbs=Losses(), **{k: c[k] for k in ('n_disc', 'n_gen', 'adaptive', 'noise', 'mask')}, **w)
    assert losses and torch.tensor(losses).isfinite().all(), f'a loss is not finite: {losses}'
    m, x = learn.model.eval(), torch.rand(3, c['channels'], *size)
    with torch.no_grad(): out = m(x)
    shapes = dict(logits=(out, (3, c['outputs'])), z=(m.z, (3, c['dims'])), picture=(m.decoder_output, x.shape), fake=(m.gan_fake, (3, 1)), real=(m.gan_real, (3, 1)))
    for k,(t,want) in shapes.items(): assert tuple(t.shape) == tuple(want) and t.isfinite().all(), f'{k} is {tuple(t.shape)}, not {tuple(want)}, or not finite'
    assert learn.get_preds(dl=learn.dls.valid)[0].isfinite().all()

seen = collections.Counter()

def outcome(c):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: train(c); return f"trained, {c['precision']}"
        except Exception as e:
            for t,words in documented:
                if isinstance(e, t) and words.search(str(e)): return f'refused: {words.pattern}'
            raise

def fuzz(examples):
    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(configs)
    def run(c): seen[outcome(c)] += 1
    run()

if __name__ == '__main__':
    n, table, bad = int(sys.argv[1]) if len(sys.argv) > 1 else 500, Table('fuzz'), ''
    try: fuzz(n)
    except Exception as e: bad = f'{type(e).__name__}: {e}'; import traceback; traceback.print_exc()
    for k,v in sorted(seen.items()): table.row(k, v)
    table.row('examples that trained', sum(v for k,v in seen.items() if k.startswith('trained')), least=n//3)
    table.row('examples in all', sum(seen.values()), least=n)
    table.row('other exceptions', float(bool(bad)), most=0, note=bad[:200])
    table.end()

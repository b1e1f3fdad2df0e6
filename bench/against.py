"""Is a step of any phase slower than in another checkout?

`python bench/against.py CHECKOUT [ROUNDS]` (the folder of another commit, such as `git worktree add` makes)

Two processes, one with each package, take steps in turn and never at once, so that a machine that is slow for a
minute slows both. ResNet34, 8 random images of 176 px, no pretrained weights. Steps are those after a first in a row,
with the memory of freed tensors kept as `fit` keeps it on a CPU: four of the adversarial phase, which take as long as
one of any other, since short turns scatter more. The bound is on the median of the ratios of the rounds, this checkout
to the other. Before it the operators that torch runs in a step are counted, backward included: they don't scatter, so
they tell a slower step from a machine that was slow.
"""

import os, subprocess, sys, time, warnings
from pathlib import Path
from statistics import median

here = Path(__file__).parent
kinds = {
    'adversarial': ('aae', False, 0.0),
    'autoencoder': ('ae', True, 0.0),
    'classifier': ('classif', True, 0.0),
    'classifier, with the consistency term': ('classif', True, 0.3),
}


def work():
    "Take the steps that are asked for, a line each, and print their seconds"
    warnings.filterwarnings('ignore')
    import torch, xaaenet
    from torch.utils._python_dispatch import TorchDispatchMode
    from xaaenet.all import AAE, keep_memory

    class Operators(TorchDispatchMode):
        "How many operators run"
        n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.n += 1
            return func(*args, **kwargs or {})

    torch.manual_seed(0)
    model = AAE(176, pretrained=False).train()
    x, y = torch.rand(8, 3, 176, 176), torch.randint(0, 2, (8,))

    def step(loss, decoding, cons_weight):
        model.zero_grad(set_to_none=True)
        model.decoding, model.cons_weight, model.swap_weight = decoding, cons_weight, 0
        getattr(model, f'{loss}_loss_func')(model(x), y).backward()

    print(Path(xaaenet.__file__).parent.parent, flush=True)
    with keep_memory():
        for line in sys.stdin:
            verb, kind = line.strip().split(' ', 1)
            step(*kinds[kind])
            if verb == 'count':
                with Operators() as counter:
                    step(*kinds[kind])
                print(counter.n, flush=True)
                continue
            steps = 4 if kind == 'adversarial' else 1
            start = time.perf_counter()
            for _ in range(steps):
                step(*kinds[kind])
            print((time.perf_counter() - start) / steps, flush=True)


class Worker:
    "A process that takes steps with the package of one checkout"

    def __init__(self, checkout):
        checkout = Path(checkout).resolve()
        env = os.environ | {'PYTHONPATH': str(checkout)}
        command = [sys.executable, str(here / 'against.py'), '--work']
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        used = self.process.stdout.readline().strip()
        if Path(used) != checkout:
            sys.exit(f'{checkout} has no xaaenet package that can be imported: give the root of a checkout.')

    def ask(self, verb, kind):
        print(verb, kind, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def measure(table, other, rounds):
    workers = {'this': Worker(here.parent), 'other': Worker(other)}
    for kind in kinds:
        counts = {k: int(w.ask('count', kind)) for k, w in workers.items()}
        note = f"{counts['this']:,}, other {counts['other']:,}"
        table.row(f'{kind}, operators', counts['this'] / counts['other'], most=1.03, note=note)
        times = {k: [] for k in workers}
        for i in range(rounds):
            for k in sorted(workers, reverse=i % 2):
                times[k].append(workers[k].ask('time', kind))
        ratios = [a / b for a, b in zip(times['this'], times['other'], strict=True)]
        seconds = f"{median(times['this']):.3f} s, other {median(times['other']):.3f} s"
        table.row(kind, median(ratios), most=1.03, note=f'{seconds}; rounds {min(ratios):.2f}–{max(ratios):.2f}')
    for w in workers.values():
        w.end()


if __name__ == '__main__':
    if sys.argv[1:] == ['--work']:
        work()
    elif len(sys.argv) < 2:
        sys.exit(__doc__)
    else:
        from _table import Table

        table = Table('against')
        git = ['git', '-C', sys.argv[1], 'rev-parse', '--short', 'HEAD']
        table.say(f'other: commit {subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"}')
        measure(table, sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 11)
        table.end()

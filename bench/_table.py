"Print a table of measurements with their bounds, keep it under results/, and exit 1 where one is missed."

import platform, subprocess, sys, time
from pathlib import Path

import torch

here = Path(__file__).parent


def commit():
    "Short hash of the commit that is measured, with a + where the tree has changes beyond results/"
    git = lambda *args: subprocess.run(['git', '-C', str(here), *args], capture_output=True, text=True).stdout.strip()
    dirty = [o for o in git('status', '--porcelain', '-uno').splitlines() if 'bench/results/' not in o]
    return (git('rev-parse', '--short', 'HEAD') or 'unknown') + ('+' if dirty else '')


class Table:
    "Rows of (name, value, bound, met), printed as they come"

    def __init__(self, name):
        self.name, self.lines, self.missed, self.start = name, [], 0, time.time()
        versions = f'torch {torch.__version__}, Python {platform.python_version()}'
        gpu = f', {torch.cuda.get_device_name()}' if torch.cuda.is_available() else ''
        self.say(f'{name}, commit {commit()}, {versions}, {torch.get_num_threads()} threads{gpu}')

    def say(self, line=''):
        self.lines.append(line)
        print(line, flush=True)

    def row(self, name, value, least=None, most=None, note=''):
        "One measurement; `least` and `most` are its bounds"
        met = (least is None or value >= least) and (most is None or value <= most)
        bound = ' '.join(f'{s} {b:g}' for s, b in (('≥', least), ('≤', most)) if b is not None)
        self.missed += not met
        word = ('met' if met else 'MISSED') if bound else ''
        self.say(f'{name:58} {value:9.4g}  {bound:>10}  {word:6} {note}'.rstrip())

    def keep(self):
        "Write the table, and say how many bounds were missed"
        self.say(f'{self.missed} bounds missed; {time.time()-self.start:.0f} s')
        (here / 'results').mkdir(exist_ok=True)
        (here / 'results' / f'{self.name}.txt').write_text('\n'.join(self.lines) + '\n')
        return self.missed

    def end(self):
        sys.exit(self.keep() > 0)

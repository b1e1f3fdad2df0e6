"""Does a run that is killed go on as if nothing had happened?

`python bench/crash.py [RUNS]` (60 runs; about 10 minutes on one core, one thread)

Each run trains the three phases on 320 digits with a checkpoint every 5 batches, and is killed with SIGKILL: two
thirds at a random moment, a third while a checkpoint is being written (half of it on the disk; whole but not yet
renamed; renamed but the old one not yet removed), every fifth run twice. Then the same call is made again until it
ends. "Lost" are the batches that the dead process had trained on beyond the place where the next one went on. The
last part takes the disk away: full, read-only, gone (on a tmpfs, which needs root).
"""

import os, random, shutil, signal, subprocess, sys, tempfile, time, warnings, zlib
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

warnings.filterwarnings('ignore')
import torch
from sklearn.datasets import load_digits
from xaaenet.all import *
import xaaenet.checkpoint as lib
from _table import Table

torch.set_num_threads(1)
every, epochs = 5, (2, 2, 2)


class Log(Callback):
    "Write each batch that was trained on, and where a fit begins, to a file at once"

    order = 150

    def __init__(self, file):
        self.here = SimpleNamespace(
            begun=False, file=os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        )  # of this process, so nothing to restore

    def say(self, *words):
        os.write(self.here.file, (' '.join(map(str, words)) + '\n').encode())

    def before_train(self):
        self.here.begun = False

    def before_batch(self):
        if self.training and not self.here.begun:
            self.here.begun = True
            self.say('begin', self.learn.phase, self.epoch, self.train_iter)

    def after_batch(self):
        if self.training:
            self.say('batch', self.learn.phase, self.epoch, self.train_iter)

    def after_validate(self):
        self.say('validated', self.learn.phase, self.epoch, self.train_iter)


def learner(folder):
    d = load_digits()
    items = list(zip((d.images[:320] * 255 / 16).astype(np.uint8), d.target))
    block = DataBlock(
        (ImageBlock(PILImageBW), CategoryBlock),
        getters=[ItemGetter(0), ItemGetter(1)],
        splitter=RandomSplitter(0.2, seed=0),
        item_tfms=Resize(32),
        batch_tfms=[Rotate(8)],
    )
    conv = lambda i, o: ConvLayer(i, o, stride=2)
    learn = aae_learner(
        block.dataloaders(items, bs=32, num_workers=0),
        nn.Sequential(conv(1, 8), conv(8, 16), conv(16, 32)),
        encoding_dims=8,
        metrics=accuracy,
        path=folder,
        seed=1,
    )
    learn.remove_cb(ProgressCallback)
    learn.logger = noop
    return learn


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_writing(stage, nth):
    """Die at the `nth` checkpoint: half of it written, whole, or renamed.

    `_write` brings first the file to the disk, then its folder."""
    sync, count = lib._sync_to_disk, [0]

    def synced(path):
        path = Path(path)
        if path.name.startswith('.aae-'):
            count[0] += 1
        if count[0] == nth and path.is_file() and stage == 'half':
            os.truncate(path, path.stat().st_size // 2)
            die()
        sync(path)
        if count[0] == nth and (path.is_dir() if stage == 'renamed' else path.is_file()):
            die()

    lib._sync_to_disk = synced


def train(folder, stage=None, nth=None):
    "In a process of its own: the call that is made again after each death"
    Path(folder).mkdir(exist_ok=True)
    if stage:
        die_writing(stage, nth)
    with open(os.devnull, 'w') as null, redirect_stdout(null):
        learn = learner(folder)
        learn.fit_phases(
            *epochs,
            lr=3e-3,
            resume=True,
            every=every,
            seed=1,
            adaptive=True,
            patience=3,
            cbs=Log(Path(folder) / 'log'),
        )
    sums = [zlib.crc32(v.numpy().tobytes()) for v in learn.model.state_dict().values()]
    history = vars(learn.recorder).get('losses') and [
        [float(o) for o in learn.recorder.losses],
        learn.recorder.values,
    ]  # none where all had been finished
    (Path(folder) / 'end').write_text(
        f'{zlib.crc32(str(sums).encode())} {zlib.crc32(str(history).encode()) if history else "-"}'
    )


def start(*args):
    pid = os.fork()
    if pid:
        return pid
    try:
        train(*args)
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def wait(pid, seconds=None):
    "Kill after `seconds` if it still runs; whether it was killed"
    began = time.time()
    while not (done := os.waitpid(pid, os.WNOHANG))[0]:
        if seconds is not None and time.time() - began > seconds:
            os.kill(pid, signal.SIGKILL)
            seconds = None
        time.sleep(0.002)
    if os.WIFEXITED(done[1]) and os.WEXITSTATUS(done[1]):
        raise RuntimeError('a run failed')
    return os.WIFSIGNALED(done[1])


def end(folder):
    return (folder / 'end').read_text().split()


def lines(folder):
    return [l.split() for l in (folder / 'log').read_text().splitlines()] if (folder / 'log').exists() else []


place = lambda l: (list(phases).index(l[1]), int(l[3]))  # phase, step


def kills(runs):
    rng, stages = random.Random(0), ('half', 'whole', 'renamed')
    return [
        [
            (
                ('writing', stages[(i // 3) % 3], rng.randint(1, 12))
                if (i % 3 == 0)
                else ('moment', rng.uniform(0.03, 0.97))
            )
            for _ in range(2 if i % 5 == 0 else 1)
        ]
        for i in range(runs)
    ]


def one(folder, plan, whole):
    "What became of a run: for each death how and where, and how many batches were lost"
    deaths = []
    for kill in plan:
        n = len(lines(folder))
        if kill[0] == 'writing':
            died = wait(start(folder, *kill[1:]))
        else:
            died = wait(start(folder), kill[1] * whole * (1 - 0.5 * bool(deaths)))
        if not died:
            break
        deaths.append((kill[0] if kill[0] == 'moment' else f'writing, {kill[1]}', len(lines(folder))))
    wait(start(folder))
    log, lost = lines(folder), []
    for how, n in deaths:
        was, then = [l for l in log[:n] if l[0] == 'batch'], next((l for l in log[n:] if l[0] == 'begin'), None)
        at, (p, step) = log[n - 1] if n else ['start', 'adversarial', 0, 0], place(then) if then else (3, 0)
        gone = [l for l in was[-200:] if place(l) > (p, step)]
        lost.append((how, at, len({place(l) for l in gone})))
    return lost


def killed_runs(table, runs):
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        ends = []
        for name in ('first', 'second'):
            began = time.time()
            wait(start(d / name))
            whole = time.time() - began
            ends.append(end(d / name))
        table.row(
            'two runs with one seed, uninterrupted: equal to the bit',
            float(ends[0] == ends[1]),
            least=1,
            note=f'{whole:.1f} s each',
        )
        same, all_lost, counts, halves = 0, [], {}, 0
        for i, plan in enumerate(kills(runs)):
            lost = one(d / str(i), plan, whole)
            while not lost:  # it had ended before: kill earlier
                shutil.rmtree(d / str(i))
                plan = [(k, o[0] * 0.8) if k == 'moment' else (k, *o) for k, *o in plan]
                lost = one(d / str(i), plan, whole)
            weights, history = end(d / str(i))
            same += (equal := weights == ends[0][0] and history in (ends[0][1], '-'))
            all_lost += lost
            halves += sum(f.is_file() for f in (d / str(i)).rglob('.*'))
            for how, at, n in lost:
                counts[how] = counts.get(how, 0) + 1
                place = f'{at[0]} {at[3]} of {at[1]}, epoch {at[2]}'
                ends_how = 'ends the same' if equal else 'ENDS OTHERWISE'
                table.say(f'  run {i:2}: killed ({how}) after {place}; {n} batches lost; {ends_how}')
            shutil.rmtree(d / str(i))
        table.row(
            'runs that were killed and end with the same weights, losses and metrics',
            same,
            least=runs,
            note=f'of {runs}',
        )
        table.row('deaths', len(all_lost), note=', '.join(f'{k}: {v}' for k, v in sorted(counts.items())))
        table.row(
            'deaths inside the writing of a checkpoint',
            sum(v for k, v in counts.items() if k != 'moment'),
            least=runs // 3,
        )
        table.row('half written files left when the runs have ended', halves, most=0)
        table.row(
            'most batches lost in a death',
            max(n for *_, n in all_lost),
            most=every,
            note='a checkpoint every 5 batches',
        )


def mounted(folder, *options):
    folder.mkdir(exist_ok=True)
    return (
        subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', ','.join(options), 'tmpfs', str(folder)], capture_output=True
        ).returncode
        == 0
    )


def disks(table):
    "Full, read-only and vanished: which error comes, and does the former checkpoint load?"
    with tempfile.TemporaryDirectory() as d:
        disk = Path(d) / 'disk'
        if not mounted(disk, 'size=64m'):
            return table.say('full and read-only disks: not run, a tmpfs needs root')
        try:
            learn = learner(disk)
            learn.fit_phases(1, 0, 0, seed=1)
            (disk / 'ballast').write_bytes(b'x' * (shutil.disk_usage(disk).free - 20_000))
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter('always')
                with open(os.devnull, 'w') as null, redirect_stdout(null):
                    learn.fit_autoencoder(1, every=every)
            texts = [str(o.message) for o in said if "couldn't be written" in str(o.message)]
            table.say(f'  full: {texts[0] if texts else "nothing was said"}'.replace(str(d), ''))
            table.row(
                'full disk: said at each write, and the training ended well',
                float(len(texts) >= 2 and learn.records['autoencoder']['best_epoch'] is not None),
                least=1,
                note=f'{len(texts)} warnings',
            )
            record = learner(disk).load_phase('adversarial')
            table.row('full disk: the former checkpoint loads', float(record['phase'] == 'adversarial'), least=1)
            left = [f.name for f in disk.rglob('.*') if f.is_file()]
            table.row('full disk: half written files left', len(left), most=0)
            (disk / 'ballast').unlink()
            subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
            try:
                learner(disk).fit_phases(1, 0, 0)
                said = 'nothing'
            except OSError as e:
                said = str(e)
            table.say(f'  read-only: {said}'.replace(str(d), ''))
            table.row('read-only disk: one sentence before the training', float("can't be written" in said), least=1)
            table.row(
                'read-only disk: the former checkpoint loads',
                float(learner(disk).load_phase('adversarial')['phase'] == 'adversarial'),
                least=1,
            )
        finally:
            subprocess.run(['umount', '-l', str(disk)])

        class Vanish(Callback):
            def after_batch(self):
                if self.training and self.train_iter == 2:
                    shutil.rmtree(gone)

        gone = Path(d) / 'gone'
        learn = learner(gone)
        with warnings.catch_warnings(record=True) as said, open(os.devnull, 'w') as null, redirect_stdout(null):
            warnings.simplefilter('always')
            learn.fit_phases(1, 0, 0, every=every, cbs=Vanish())
        texts = [str(o.message) for o in said if "couldn't be written" in str(o.message)]
        table.say(f'  vanished: {texts[0] if texts else "nothing was said"}'.replace(str(d), ''))
        table.row(
            'vanished folder: said, and the training ended well',
            float(len(texts) >= 1 and learn.records['adversarial']['best_epoch'] is not None),
            least=1,
        )


if __name__ == '__main__':
    table = Table('crash')
    killed_runs(table, int(sys.argv[1]) if len(sys.argv) > 1 else 60)
    disks(table)
    table.end()

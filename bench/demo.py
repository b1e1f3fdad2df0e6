"""The main job with three seeds: `python bench/demo.py`

Each run is the command that a user types, in a process of its own and without a network (its proxy is a port where
nothing listens).
"""

import json, os, subprocess, sys, tempfile
from pathlib import Path

from _table import Table

table, dead = Table('demo'), 'http://127.0.0.1:9'
for seed in (0, 1, 2):
    with tempfile.TemporaryDirectory() as out:
        res = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'xaaenet.demo', '--seed', str(seed), '--out', out],
            capture_output=True,
            text=True,
            env={**os.environ, 'HTTP_PROXY': dead, 'HTTPS_PROXY': dead},
        )
        if res.returncode:
            sys.exit(f'seed {seed} failed:\n{res.stdout[-2000:]}\n{res.stderr[-2000:]}')
        s = json.loads((Path(out) / 'summary.json').read_text())
    table.say(f'seed {seed}, {s["n_test"]} test images')
    table.row('  seconds', s['seconds'], most=180)
    table.row('  accuracy', s['accuracy'], least=0.97)
    table.row(
        '  MS-SSIM of z-only pictures',
        s['ms_ssim'],
        least=0.85,
        note=f'class mean {s["ms_ssim_class_mean"]:.3f}, PCA-16 {s["ms_ssim_pca"]:.3f}',
    )
    table.row(
        '  L1 of z-only pictures', s['l1'], note=f'class mean {s["l1_class_mean"]:.3f}, PCA-16 {s["l1_pca"]:.3f}'
    )
    table.row(
        '  sliced Wasserstein distance over that of a Gaussian sample',
        s['swd'] / s['swd_gaussian'],
        most=2,
        note=f'{s["swd"]:.3f} / {s["swd_gaussian"]:.3f}',
    )
    table.row('  AUC of a fresh MLP that tells z from N(0, I)', s['auc_gaussian'], note='perfect 0.5')
table.end()

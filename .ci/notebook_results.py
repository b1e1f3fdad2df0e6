"""One `ok`, `FAIL` or `skip` line per notebook, from nbdev-test's exit code and its log."""
import re, sys
from nbdev.config import get_config
from nbdev.doclinks import nbglob
from nbdev.test import nb_test_cells

rc, log = int(sys.argv[1]), open(sys.argv[2], encoding='utf-8', errors='replace').read()
listed = re.search(r'Tests Failed On The Following Notebooks:\n=+\n((?:\t.+\n?)+)', log)
failed = set(listed[1].split()) if listed else set()
flags = get_config().tst_flags.split()
names = set()
for f in sorted(nbglob(as_path=True)):
    names.add(f.name)
    if not nb_test_cells(f, flags): print(f'skip {f.name}: nothing to run')
    elif f.name in failed: print(f'FAIL {f.name}')
    # No list of failures and no success: it never came to an end, so that no notebook is known to have passed.
    elif rc == 0 or listed: print(f'ok   {f.name}')
    else: print(f'FAIL {f.name}: nbdev-test gave no result (exit code {rc})')
for name in sorted(failed - names): print(f'FAIL {name}: failed, and is not in the folder of notebooks')

"""Do the signatures that the site shows stand as they do in the code?

`python .ci/signatures.py _proc` lists those that name a notebook's kernel, or an object by its address, and exits 1.
"""
import json, re, sys
from pathlib import Path

leak = re.compile(r'.{0,40}(?:__main__\.|<built-in |<function |<class |<module |object at 0x).{0,40}')
found, n = [], 0
for f in sorted(Path(sys.argv[1]).rglob('*.ipynb')):
    for c in json.loads(f.read_text(encoding='utf-8'))['cells']:
        if c['cell_type'] != 'code' or 'show_doc' not in ''.join(c['source']): continue
        shown = [''.join(lines) for o in c['outputs'] for lines in o.get('data', {}).values()]
        n += any('(' in text for text in shown)
        found += [f'{f}: a signature holds more than its code: {m}' for text in shown for m in leak.findall(text)]
if not n: sys.exit(f'No signature is in {sys.argv[1]}: build the pages first.')
if found: sys.exit('\n'.join(found))

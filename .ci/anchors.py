"""Does every link to a heading of a built page lead to one?

`python .ci/anchors.py _docs` lists those that don't, and exits 1 if there are any.
"""
import re, sys
from pathlib import Path
from urllib.parse import unquote

root = Path(sys.argv[1]).resolve()
pages = {f: f.read_text(encoding='utf-8') for f in root.rglob('*.html')}
ids = {f: set(re.findall(r'\b(?:id|name)="([^"]+)"', s)) for f,s in pages.items()}
broken = []
for f,s in pages.items():
    for href in set(re.findall(r'<a\b[^>]*?\bhref="([^"]*#[^"]+)"', s)):
        path, _, anchor = href.partition('#')
        to = (f.parent/unquote(path)).resolve() if path else f
        outside = re.match(r'[a-z]+:|//', href) or to not in ids
        if not outside and unquote(anchor) not in ids[to]: broken.append(f'{f.relative_to(root)}: broken link {href}')
if broken: sys.exit('\n'.join(sorted(broken)))

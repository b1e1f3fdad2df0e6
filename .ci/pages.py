"""The pages of the site in reading order, and nbs/llms.txt, which lists them.

`python .ci/pages.py` writes it, `--check` exits 1 if it differs.
"""
import json, re, sys, tomllib
from pathlib import Path

import yaml

root = Path(__file__).resolve().parent.parent
nbs = root/'nbs'

def text(lines): return lines if isinstance(lines, str) else ''.join(lines)

def notebooks(pattern='**/*.ipynb'):
    "Paths of the notebooks of `nbs`, but for what Jupyter and nbdev keep for themselves"
    found = sorted(nbs.glob(pattern))
    return [f for f in found if not any(o.startswith(('.', '_')) for o in f.relative_to(nbs).parts)]

def sidebar():
    "(section, path) of each page, in the order of the sidebar"
    def walk(contents, section=None):
        for o in contents:
            if isinstance(o, dict): yield from walk(o['contents'], o['section'])
            else: yield section, o
    return list(walk(yaml.safe_load((nbs/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']))

def cells(path): return json.loads((nbs/path).read_text(encoding='utf-8'))['cells']

def title(path):
    "Title and subtitle of a page"
    first = text(cells(path)[0]['source'])
    m = re.match(r'# (.+)\n+> (.+)', first)
    if not m:
        raise ValueError(f'{path} begins with no title and subtitle: '
                         'its first cell is `# Title`, an empty line, and `> what it is`.')
    return m[1].strip(), m[2].strip()

def url(path):
    "Where the page is published, as Markdown; nbdev leaves out the number of a notebook's name"
    site = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['project']['urls']['Documentation']
    folder, _, name = path.rpartition('/')
    page = re.sub(r'^\d+[a-zA-Z]?_', '', name.removesuffix('.ipynb'))
    return '/'.join(filter(None, (site.rstrip('/'), folder, page))) + '.html.md'

def llms():
    (_, home), *rest = sidebar()
    name, what = title(home)
    parts, last = [f'# {name}', f'> {what}', f'- [{name}]({url(home)}): what it is, install, run'], None
    for section,path in rest:
        t, s = title(path)
        if section != last: parts.append(f'## {section or "Project"}')
        last = section
        parts.append(f'- [{t}]({url(path)}): {s}')
    return re.sub(r'(?m)^(- .*)\n\n(?=- )', r'\1\n', '\n\n'.join(parts)) + '\n' # items of a list stand close

if __name__ == '__main__':
    f = nbs/'llms.txt'
    if '--check' in sys.argv[1:]:
        same = f.read_text(encoding='utf-8') == llms()
        if not same: raise SystemExit('nbs/llms.txt differs from the pages: run python .ci/pages.py')
    else: f.write_text(llms(), encoding='utf-8')

"""Do the pages say what they are for, and does every public name say what its parameters are?

One `ok` or `FAIL` line per check; exits 1 on any FAIL.
"""
import importlib, inspect, json, re, sys, tomllib, warnings
from dataclasses import is_dataclass
from pathlib import Path

warnings.filterwarnings('ignore')
sys.path.insert(0, str(Path(__file__).parent))
import pages
from pages import nbs, root, text

failed = False

def check(name, problems):
    "A line a check; one that cannot be made is one that failed."
    global failed
    try: problems = list(problems())
    except Exception as e: problems = [f'{type(e).__name__}: {e}']
    failed |= bool(problems)
    print(f'FAIL {name}: {"; ".join(problems)}' if problems else f'ok   {name}', flush=True)

def notebooks():
    "The notebooks, as seen from `nbs`"
    return [f.relative_to(nbs).as_posix() for f in pages.notebooks()]

def directives(source):
    "Name and value of each `#|` line of a cell"
    return dict(re.findall(r'^#[ \t]*\|[ \t]*([\w-]+)[ \t]*:?[ \t]*(.*)$', source, re.M))

def reading_order():
    listed, there = [p for _,p in pages.sidebar()], notebooks()
    for p in there:
        if listed.count(p) != 1: yield f'{p} is {listed.count(p)} times in nbs/sidebar.yml'
    for p in sorted(set(listed) - set(there)): yield f'nbs/sidebar.yml lists {p}, which is not there'

def opening(path):
    "The prose before the first code that is shown"
    res = []
    for i,c in enumerate(pages.cells(path)):
        source = text(c['source'])
        if c['cell_type'] == 'code':
            if {'hide', 'default_exp', 'export'} & set(directives(source)): continue
            break
        if i == 0: source = re.sub(r'\A# .+\n+> .+', '', source)
        source = re.sub(r'```.*?```', '', source, flags=re.S)
        res += [p for p in re.split(r'\n\s*\n', source) if re.match(r'[\w`*"(]', p.strip())]
    return ' '.join(res)

def openings():
    for p in notebooks():
        try: pages.title(p)
        except ValueError as e: yield str(e); continue
        if len(opening(p).split()) < 15:
            yield f'{p} does not say what it is for: begin with a sentence or two below the subtitle'

image = re.compile(r'!\[([^\]]*)\]\([^)]*\)|<img\b([^>]*)>')
def images():
    for p in notebooks():
        for c in pages.cells(p):
            source = text(c['source'])
            if c['cell_type'] == 'markdown':
                for m in image.finditer(source):
                    alt = m[1] if m[1] is not None else (re.search(r'alt="([^"]*)"', m[2]) or ['', ''])[1]
                    if len(alt.split()) < 2: yield f'{p}: {m[0][:60]} has no alt text'
            elif 'hide' not in directives(source) and any('image/png' in o.get('data', {}) for o in c['outputs']):
                if len(directives(source).get('fig-alt', '').split()) < 3:
                    yield f'{p}, cell {c["id"]}: a figure without `#| fig-alt:`'

def test_flags():
    "The flags of cells that `nbdev-test` skips"
    return tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['tool']['nbdev']['tst_flags'].split()

def shown(cell, kind='text'):
    "The outputs of a cell whose type begins with `kind`, as one text"
    found = [{'text': o.get('text', ''), **o.get('data', {})} for o in cell.get('outputs', [])]
    return ' '.join(text(v) for o in found for k,v in o.items() if k.startswith(kind))

# from the root of a file system: not the end of a URL, of `~/...`, or of a relative path, and no closing tag
absolute = re.compile(r'(?<![\w/.~<>*)\]-])/(?:[\w.-]+/)+[\w.-]+')

def faults(cell):
    "What is wrong with the saved outputs of a cell"
    d = directives(text(cell['source']))
    path = absolute.search(shown(cell))
    if any(o['output_type'] == 'error' for o in cell['outputs']): yield 'holds an error'
    if path: yield f'holds a path of the machine that it ran on, {path[0]}'
    if cell['outputs'] and d.get('eval') == 'false': yield 'is not run, and holds an output'
    if 'fig-alt' in d and not cell['outputs']:
        flags = ' '.join(f for f in test_flags() if f in d)
        yield 'its figure was never drawn; run the page with nbdev-test --save' + (f' --flags {flags}' if flags else '')

def outputs():
    for p in notebooks():
        code = [c for c in pages.cells(p) if c['cell_type'] == 'code']
        if code and not any(c['outputs'] for c in code): yield f'{p} shows no output: nbdev-test {p} --save'
        for c in code: yield from (f'{p}, cell {c["id"]}: {o}' for o in faults(c))

def changelog():
    on_site = ''.join(shown(c, 'text/markdown') for c in pages.cells('changelog.ipynb'))
    in_file = re.sub(r'\A# .*\n', '', (root/'CHANGELOG.md').read_text(encoding='utf-8'))
    if on_site.split() != in_file.split(): yield 'run nbdev-test nbs/changelog.ipynb --save'

def public():
    "Functions of `__all__`, and the public methods of its classes, but for callbacks' events and what only overrides"
    from fastai.callback.core import event
    for f in sorted((root/'xaaenet').glob('[a-z]*.py')):
        m = importlib.import_module(f'xaaenet.{f.stem}')
        if f.stem == 'all': continue
        for name in getattr(m, '__all__', []):
            o = getattr(m, name)
            if not callable(o) or getattr(o, '__module__', None) != m.__name__: continue
            is_class = isinstance(o, type)
            yield f'{f.stem}.{name}', o, o if is_dataclass(o) or not is_class else vars(o).get('__init__')
            for a,method in vars(o).items() if is_class else ():
                method = getattr(method, '__func__', method)
                if a.startswith('_') or not inspect.isfunction(method): continue
                if a in vars(event) or a == 'forward' or any(hasattr(b, a) for b in o.__mro__[1:]): continue
                yield f'{f.stem}.{name}.{a}', method, method

def docments():
    from fastcore.docments import docments
    for name,o,f in public():
        if not inspect.getdoc(o): yield f'{name} has no docstring'
        if f is None: continue
        parameters = inspect.signature(f).parameters.values()
        named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)} - {'self', 'cls'}
        said = docments(f, full=True, returns=False)
        missing = [k for k in said if k in named and not said[k]['docment']]
        if missing: yield f'{name} does not say what {", ".join(missing)} {"is" if len(missing) == 1 else "are"}'

def llms():
    if (nbs/'llms.txt').read_text(encoding='utf-8') != pages.llms(): yield 'run python .ci/pages.py'

if __name__ == '__main__':
    check('the sidebar lists every page once', reading_order)
    check('nbs/llms.txt lists every page', llms)
    check('every page has a title, a subtitle, and says what it is for', openings)
    check('images have alt text', images)
    check('saved outputs are whole', outputs)
    check('the changelog on the site is CHANGELOG.md', changelog)
    check('every public name says what its parameters are', docments)
    sys.exit(failed)

"""Do the pages say what they are for, and does every public name say what its parameters are? One `ok` or `FAIL` line per check; exits 1 on any FAIL."""
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

def notebooks(): return sorted(f.relative_to(nbs).as_posix() for f in nbs.rglob('*.ipynb') if not any(p.startswith(('.', '_')) for p in f.relative_to(nbs).parts))
def directives(source): return dict(re.findall(r'^#[ \t]*\|[ \t]*([\w-]+)[ \t]*:?[ \t]*(.*)$', source, re.M))
def is_module(path): return any('default_exp' in directives(text(c['source'])) for c in pages.cells(path) if c['cell_type'] == 'code')

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
        if len(opening(p).split()) < 15: yield f'{p} does not say what it is for: begin with a sentence or two below the subtitle'

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
                if len(directives(source).get('fig-alt', '').split()) < 3: yield f'{p}, cell {c["id"]}: a figure without `#| fig-alt:`'

def outputs():
    flags = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['tool']['nbdev']['tst_flags'].split()
    for p in notebooks():
        for c in (c for c in pages.cells(p) if c['cell_type'] == 'code'):
            d = directives(text(c['source']))
            if any(o['output_type'] == 'error' for o in c['outputs']): yield f'{p}, cell {c["id"]}: holds an error'
            shown = ' '.join(text(v) for o in c['outputs'] for k,v in {'text': o.get('text', ''), **o.get('data', {})}.items() if k.startswith('text'))
            if path := re.search(r'/(opt|root|home|Users|srv|mnt|tmp)/\w\S*', shown): yield f'{p}, cell {c["id"]}: holds a path of the machine that it ran on, {path[0]}'
            if c['outputs'] and d.get('eval') == 'false': yield f'{p}, cell {c["id"]}: is not run, and holds an output'
            if 'fig-alt' in d and not c['outputs']: yield f'{p}, cell {c["id"]}: its figure was never drawn; run the page with nbdev-test --save' + (' --flags ' + ' '.join(f for f in flags if f in d) if set(flags) & set(d) else '')

def changelog():
    shown = ''.join(text(o['data']['text/markdown']) for c in pages.cells('changelog.ipynb') for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {}))
    if shown.split() != re.sub(r'\A# .*\n', '', (root/'CHANGELOG.md').read_text(encoding='utf-8')).split(): yield 'run nbdev-test nbs/changelog.ipynb --save'

def public():
    "Functions of `__all__`, and the public methods of its classes; callbacks' events and what only overrides are said elsewhere"
    from fastai.callback.core import event
    for f in sorted((root/'xaaenet').glob('[a-z]*.py')):
        m = importlib.import_module(f'xaaenet.{f.stem}')
        if f.stem == 'all': continue
        for name in getattr(m, '__all__', []):
            o = getattr(m, name)
            if not callable(o) or getattr(o, '__module__', None) != m.__name__: continue
            yield f'{f.stem}.{name}', o, o if is_dataclass(o) or not isinstance(o, type) else vars(o).get('__init__')
            for a,method in vars(o).items() if isinstance(o, type) else ():
                method = getattr(method, '__func__', method)
                if a.startswith('_') or not inspect.isfunction(method) or a in vars(event) or a == 'forward' or any(hasattr(b, a) for b in o.__mro__[1:]): continue
                yield f'{f.stem}.{name}.{a}', method, method

def docments():
    from fastcore.docments import docments
    for name,o,f in public():
        if not inspect.getdoc(o): yield f'{name} has no docstring'
        if f is None: continue
        named = {k for k,p in inspect.signature(f).parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and k not in ('self', 'cls')}
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

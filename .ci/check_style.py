"""Can the code be read? Figures in tables, then one `ok` or `FAIL` line per check; exits 1 on any FAIL.

`python .ci/check_style.py --list` also prints every place as `file:line: what`, where a line of a notebook is a line of
its file. `--json` prints only the figures, as JSON, and checks nothing.

- Code lines of a cell are neither empty nor directives (`#| export`). A cell that only imports isn't an exported cell.
- A statement is nested if a comprehension, a generator expression, a ternary or a lambda lies inside another of them.
  The first iterable of a comprehension doesn't lie inside it: Python evaluates it beforehand. A compound statement
  counts by its header; the statements in its body count by themselves.
- The share of long lines is one of the lines that aren't empty. nbdev breaks `__all__` itself, at up to 131 characters.
"""
import ast, json, re, sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
from pages import notebooks, root

max_width, max_nested, max_module, max_model = 120, 20, 500, 750
max_median, max_cell, min_prose, max_row = 10, 30, .25, 3
docstring_over, docstring_must = 3, 5  # a longer private definition without one counts, is a fault
unaware = {'checkpoint', 'distributed', 'resume'}  # modules that know nothing of `model`
tasks = {'category', 'labels', 'score'}


@dataclass
class Cell:
    "A cell of a notebook, and where its source begins in the notebook's file"
    path: str
    id: str
    kind: str
    source: str
    line: int

    @property
    def lines(self):
        "The lines that are neither empty nor a directive"
        return [o for o in self.source.splitlines() if o.strip() and not re.match(r'\s*#\s*\|', o)]

    @property
    def exported(self):
        "Is it code of a module, other than its imports?"
        if self.kind != 'code' or not re.search(r'^#\s*\|\s*exporti?\b', self.source, re.M): return False
        return not all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in ast.parse(self.source).body)

    def place(self, what):
        "`file:line: what`, with the cell's id"
        return f'{self.path}:{self.line}: cell {self.id} {what}'


@dataclass
class Source:
    "A Python file of the project"
    path: Path
    text: str = field(init=False)
    tree: ast.Module = field(init=False)

    def __post_init__(self):
        "Read the file"
        self.text = self.path.read_text(encoding='utf-8')
        self.tree = ast.parse(self.text)

    @property
    def name(self):
        "The module's name"
        return self.path.stem

    def place(self, line, what):
        "`file:line: what`"
        return f'{relative(self.path)}:{line}: {what}'


def relative(path):
    "A path as seen from the project's folder"
    return path.relative_to(root).as_posix()


def cells(path):
    "The cells of a notebook, each with the line where its source begins"
    text, at = path.read_text(encoding='utf-8'), 0
    for cell in json.loads(text)['cells']:
        at = max(at, text.find(f'"id": {json.dumps(cell.get("id"))}', at))
        line = text.count('\n', 0, max(at, text.find('\n   "source": [', at))) + 3
        yield Cell(relative(path), cell.get('id', '?'), cell['cell_type'], ''.join(cell['source']), line)


# Lines

def source_lines(sources):
    "(file, number, text) of each line that isn't empty"
    every = [(relative(o.path), i, line) for o in sources for i,line in enumerate(o.text.splitlines(), 1)]
    return [o for o in every if o[2].strip()]


def cell_lines(paths):
    "The same of the code cells of notebooks"
    code = [c for path in paths for c in cells(path) if c.kind == 'code']
    every = [(c.path, i, line) for c in code for i,line in enumerate(c.source.splitlines(), c.line)]
    return [o for o in every if o[2].strip()]


def too_wide(lines):
    "Places of the lines that are too long"
    wide = [o for o in lines if len(o[2]) > max_width and not o[2].startswith('__all__ = [')]
    return [f'{path}:{i}: {len(line)} characters' for path,i,line in wide]


def line_figures(lines):
    "The longest line, and the share of those that are too long"
    longest = max((len(line) for *_,line in lines), default=0)
    return {'longest': longest, 'over': len(too_wide(lines))/max(1, len(lines))}


# Statements

comprehensions = ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp


def depth(node):
    "How many comprehensions, ternaries and lambdas of a node lie inside one another, without the statements below it"
    if isinstance(node, comprehensions):
        first = node.generators[0]
        inside = [o for o in ast.iter_child_nodes(node) if o is not first] + [first.target, *first.ifs]
        return max(depth(first.iter), 1 + deepest(inside))
    below = [o for o in ast.iter_child_nodes(node) if not isinstance(o, ast.stmt)]
    return deepest(below) + isinstance(node, (ast.IfExp, ast.Lambda))


def deepest(nodes):
    "The depth of the deepest of several nodes"
    return max(map(depth, nodes), default=0)


def nested(source):
    "Places of the statements that are nested"
    statements = [o for o in ast.walk(source.tree) if isinstance(o, ast.stmt)]
    return [source.place(o.lineno, f'nested {depth(o)} deep') for o in statements if depth(o) > 1]


def asks_task(node):
    "Does a node compare a `task` with something, or look it up among the three names?"
    if isinstance(node, ast.Match): return is_task(node.subject)
    if not isinstance(node, ast.Compare): return False
    sides, ops = [node.left, *node.comparators], node.ops
    if any(map(is_task, sides)): return any(isinstance(o, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)) for o in ops)
    return isinstance(ops[0], (ast.In, ast.NotIn)) and among_tasks(sides[1])


def is_task(node):
    "Is it a variable or an attribute of that name?"
    return getattr(node, 'id', getattr(node, 'attr', None)) == 'task'


def among_tasks(node):
    "Is it a list, tuple or set of names of tasks?"
    names = [getattr(o, 'value', None) for o in getattr(node, 'elts', [])]
    return bool(names) and all(isinstance(o, str) and o in tasks for o in names)


def task_comparisons(source):
    "Places that depend on the task"
    return [source.place(o.lineno, 'asks for the task') for o in ast.walk(source.tree) if asks_task(o)]


# Definitions

functions = ast.FunctionDef, ast.AsyncFunctionDef


def definitions(nodes):
    "The functions and classes among nodes"
    return [o for o in nodes if isinstance(o, (*functions, ast.ClassDef))]


def bare(source, over):
    "Places of the private functions and classes of more than `over` lines that have no docstring"
    res = []
    for o in definitions(ast.walk(source.tree)):
        n = o.end_lineno - o.lineno + 1
        private = o.name.startswith('_') and not o.name.endswith('__')
        if private and n > over and not ast.get_docstring(o): res.append(source.place(o.lineno, f'{o.name}, {n} lines'))
    return res


def exports(source):
    "The names in a module's `__all__`"
    for o in source.tree.body:
        if isinstance(o, ast.Assign) and getattr(o.targets[0], 'id', '') == '__all__': return ast.literal_eval(o.value)
    return []


def exported_twice(sources):
    "Names in the `__all__` of two modules, and names that a module defines twice (but by decorators such as `@patch`)"
    count = Counter(n for o in sources for n in set(exports(o)))
    for source in sources:
        names = [o.name for o in definitions(source.tree.body) if not o.decorator_list]
        twice = [n for n in exports(source) if count[n] > 1 or names.count(n) > 1]
        yield from (source.place(1, f'{n} is exported twice') for n in dict.fromkeys(twice))


# Imports

def imports(source):
    "(line, module) of each import of a module of the package, wherever it stands"
    for o in ast.walk(source.tree):
        if isinstance(o, ast.Import): names = [n.name for n in o.names]
        elif isinstance(o, ast.ImportFrom): names = [f'{o.module or ""}.{n.name}' for n in o.names]
        else: continue
        for name in names:
            parts = name.lstrip('.').split('.')
            if getattr(o, 'level', 0) == 0:
                if parts.pop(0) != 'xaaenet': continue
            if parts and (root/'xaaenet'/f'{parts[0]}.py').exists(): yield o.lineno, parts[0]


def order():
    "Module of each numbered notebook, in order"
    res = {}
    for path in numbered():
        found = [re.search(r'^#\s*\|\s*default_exp\s+(\w+)', c.source, re.M) for c in cells(path) if c.kind == 'code']
        res.update((m[1], path) for m in found if m)
    return res


def numbered():
    "The notebooks that modules are made from"
    return notebooks('[0-9][0-9]*_*.ipynb')


def wrong_imports(sources):
    "Places of the imports of a module that comes later, or that is not to be known"
    place = {name: i for i,name in enumerate(order())}
    for source in sources:
        if source.name not in place: yield source.place(1, 'is made by no numbered notebook')
        for line,name in dict.fromkeys(imports(source)):
            if place.get(name, len(place)) >= place.get(source.name, 0):
                yield source.place(line, f'{name} comes after {source.name}')
            if source.name in unaware and name == 'model': yield source.place(line, f'{source.name} imports model')


# Notebooks

def signature(source):
    "The most lines that the signature of one function takes, after the line of its `def`"
    res = [0]
    for o in ast.walk(ast.parse(source)):
        if not isinstance(o, functions): continue
        lines, body = source.splitlines(), o.body[0]
        end = body.lineno - 1
        if lines[end].encode()[:body.col_offset].strip(): end += 1 # the body begins on the signature's last line
        else:
            while lines[end - 1].strip()[:1] in ('', '#') and end > o.lineno: end -= 1
        res.append(len([l for l in lines[o.lineno:end] if l.strip()]))
    return max(res)


def too_long(cell):
    "Is an exported cell too long, even with its longest signature on one line?"
    return len(cell.lines) > max_cell and len(cell.lines) - signature(cell.source) > max_cell


def has_sentence(markdown):
    "Is there a sentence, apart from headings, code and tables?"
    prose = re.sub(r'```.*?(```|\Z)|^\s*(#|\|).*?$', '', markdown, flags=re.S | re.M)
    ends = re.compile(r'\w\W{,3}[.!?:](?=\W*(\s|$))')
    return any(len(p.split()) >= 4 and ends.search(p) for p in re.split(r'\n\s*\n', prose))


def row_ends(found):
    "(exported cells in a row, the last of them) for each row without a sentence"
    n, last, res = 0, None, []
    for cell in found:
        if cell.exported: n, last = n + 1, cell
        elif cell.kind == 'markdown' and has_sentence(cell.source) and n:
            res.append((n, last))
            n = 0
    return res + [(n, last)] if n else res


def prose(found):
    "Share of the characters of cells that are text"
    text = sum(len(o.source) for o in found if o.kind == 'markdown')
    return text/max(1, sum(len(o.source) for o in found if o.kind in ('markdown', 'code')))


# Figures

def module_figures(sources):
    "The figures of one or more modules"
    return {'lines': sum(len(o.text.splitlines()) for o in sources), **line_figures(source_lines(sources)),
            'nested': sum(len(nested(o)) for o in sources), 'task': sum(len(task_comparisons(o)) for o in sources),
            'bare': sum(len(bare(o, docstring_over)) for o in sources)}


def notebook_figures(paths):
    "The figures of one or more numbered notebooks"
    found = [list(cells(path)) for path in paths]
    every = [c for o in found for c in o]
    sizes = [len(c.lines) for c in every if c.exported]
    rows = [n for o in found for n,_ in row_ends(o)]
    return {'cells': len(sizes), 'median': median(sizes or [0]), 'largest': max(sizes, default=0),
            'prose': prose(every), 'row': max(rows, default=0)}


def figures(modules, folders):
    "What the tables show"
    by_module = {o.name: module_figures([o]) for o in modules}
    by_notebook = {o.name: notebook_figures([o]) for o in numbered()}
    return {'module': by_module | {'all of them': module_figures(modules)},
            'notebook': by_notebook | {'all of them': notebook_figures(numbered())},
            'folder': {name: line_figures(lines) for name,lines in folders.items()}}


def table(title, rows):
    "A line for each row"
    width = max(map(len, [title, *rows]))
    print(f'{title:{width}}', *(f'{k:>8}' for k in next(iter(rows.values()))))
    for name,row in rows.items(): print(f'{name:{width}}', *(f'{round(v, 3):8g}' for v in row.values()))
    print()


# Checks

failed = False


def check(name, places, allowed=0, say=''):
    "A line a check: more places than allowed are a failure"
    global failed
    places = list(places)
    bad = len(places) > allowed
    failed |= bad
    parts = [say, f'{len(places)} in all' if places else '', f'first {places[0]}' if bad and not listing else '']
    said = ', '.join(filter(None, parts))
    print(f'{"FAIL" if bad else "ok  "} {name}{": " if said else ""}{said}', flush=True)
    if listing: print(*places, sep='\n', end='\n' if places else '')


def check_lines(folders):
    "The check of the length of lines"
    for name,lines in folders.items():
        longest = line_figures(lines)['longest']
        check(f'no line over {max_width} characters in {name}', too_wide(lines), say=f'the longest has {longest}')


def large_modules(modules):
    "Places of the modules that have too many lines"
    for o in modules:
        n = len(o.text.splitlines())
        if n > (max_model if o.name == 'model' else max_module): yield o.place(1, f'{n} lines')


def check_modules(modules):
    "The checks of the package"
    few = sum(len(bare(o, docstring_over)) for o in modules)
    asking = [p for o in modules if o.name != 'tasks' for p in task_comparisons(o)]
    check(f'no module over {max_module} lines (model.py {max_model})', large_modules(modules))
    check(f'at most {max_nested} nested statements', (p for o in modules for p in nested(o)), max_nested)
    check('only tasks.py asks for the task', asking)
    check('imports only point up', wrong_imports(modules))
    check('no name is exported twice', exported_twice(modules))
    check(f'private definitions of more than {docstring_must} lines have a docstring',
          (p for o in modules for p in bare(o, docstring_must)), say=f'{few} of more than {docstring_over} have none')


def check_notebooks(found, overall):
    "The checks of the numbered notebooks, given their figures and those of all together"
    exported = [c for path in numbered() for c in cells(path) if c.exported]
    rows = [row for path in numbered() for row in row_ends(cells(path))]
    medians = {f'nbs/{k}:1: median': o['median'] for k,o in found.items()} | {'nbs:1: median of all': overall['median']}
    check(f'the median exported cell has at most {max_median} lines, in each notebook and overall',
          (f'{k} {v:g}' for k,v in medians.items() if v > max_median))
    check(f'no exported cell has over {max_cell} lines, apart from one signature',
          (c.place(f'has {len(c.lines)} lines') for c in exported if too_long(c)))
    check(f'at least {min_prose:.0%} of the characters of a numbered notebook are prose',
          (f'nbs/{k}:1: {o["prose"]:.1%}' for k,o in found.items() if o['prose'] < min_prose))
    check(f'at most {max_row} exported cells in a row without a sentence',
          (last.place(f'is the last of {n}') for n,last in rows if n > max_row))


def read(folder):
    "The Python files of a folder, but for nbdev's index"
    return [Source(o) for o in sorted((root/folder).glob('*.py')) if o.stem != '_modidx']


def main():
    "Print the tables and make the checks"
    sources = read('xaaenet')
    modules = [o for o in sources if o.name not in ('__init__', 'all')]
    folders = {'the package': source_lines(sources), 'code cells': cell_lines(notebooks()),
               'bench': source_lines(read('bench')), '.ci': source_lines(read('.ci'))}
    res = figures(modules, folders)
    if '--json' in sys.argv: return print(json.dumps(res, indent=1))
    for title,rows in res.items(): table(title, rows)
    check_lines(folders)
    check_modules(modules)
    overall = res['notebook'].pop('all of them')
    check_notebooks(res['notebook'], overall)


listing = '--list' in sys.argv
if __name__ == '__main__':
    main()
    sys.exit(failed)

"""Do the files that are made from one another agree? One `ok` or `FAIL` line per check; exits 1 on any FAIL."""
import configparser, os, re, shutil, subprocess, sys, tempfile, tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import readme

root = readme.root
failed = False

def check(name, problem=''):
    global failed
    failed |= bool(problem)
    print(f'FAIL {name}: {problem}' if problem else f'ok   {name}', flush=True)

def guarded(name, f):
    "A check that cannot be made is a check that failed."
    try: check(name, f())
    except (Exception, SystemExit) as e: check(name, f'{type(e).__name__}: {e}')

def settings():
    ini = configparser.ConfigParser()
    ini.read_string((root/'settings.ini').read_text(encoding='utf-8'))
    ini = ini['DEFAULT']
    toml = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))
    proj, nbdev = toml['project'], toml['tool']['nbdev']
    init = (root/'xaaenet'/'__init__.py').read_text(encoding='utf-8')
    scripts = {tuple(p.strip() for p in l.split('=')) for l in ini['console_scripts'].splitlines() if l.strip()}
    urls = proj['urls']
    pairs = {
        'lib_name': (ini['lib_name'], proj['name']),
        'version': (ini['version'], re.search(r'''^__version__ = ["'](.+)["']''', init, re.M)[1]),
        'description': (ini['description'], proj['description']),
        'keywords': (ini['keywords'].split(), proj['keywords']),
        'author': (ini['author'], proj['authors'][0]['name']),
        'license': ({'apache2': 'Apache-2.0'}.get(ini['license'], ini['license']), proj['license']),
        'min_python': (f">={ini['min_python']}", proj['requires-python']),
        'requirements': (sorted(ini['requirements'].split()), sorted(proj['dependencies'])),
        'dev_requirements': (sorted(ini['dev_requirements'].split()), sorted(proj['optional-dependencies']['dev'])),
        'console_scripts': (scripts, set(proj['scripts'].items())),
        'git_url': (ini['git_url'], urls['Repository']),
        'doc_host + doc_baseurl': (ini['doc_host'] + ini['doc_baseurl'], urls['Documentation'].rstrip('/')),
        **{k: (ini[k], nbdev[k]) for k in ('lib_path', 'nbs_path', 'doc_path', 'branch', 'tst_flags')},
        'custom_sidebar': (ini.getboolean('custom_sidebar'), nbdev['custom_sidebar']),
    }
    return '; '.join(f'{k} is {a!r} and {b!r}' for k, (a, b) in pairs.items() if a != b)

def lowest():
    "Lines of constraints-lowest.txt that aren't the lower bounds of pyproject.toml, or the other way round."
    bound = lambda o: (o[0], re.sub(r'(\.0)+$', '', o[1]))
    deps = tomllib.loads((root/'pyproject.toml').read_text(encoding='utf-8'))['project']['dependencies']
    lines = (root/'.ci'/'constraints-lowest.txt').read_text(encoding='utf-8').splitlines()
    lines = [l for l in lines if l and l[0] != '#']
    return ', '.join(o[0] for o in {bound(o.split('>=')) for o in deps} ^ {bound(o.split('==')) for o in lines})

def git(*args, cwd):
    return subprocess.run(['git', *args], cwd=cwd, check=True, capture_output=True, text=True).stdout

def copy_tree(to):
    "The files that git tracks or would track, in a repository of their own, so that nothing dirties this one."
    for f in filter(None, git('ls-files', '-coz', '--exclude-standard', cwd=root).split('\0')):
        if (root/f).is_file():
            (to/f).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root/f, to/f)
    git('init', '-q', cwd=to)
    git('add', '-A', cwd=to)
    settings = ('user.name=check', 'user.email=check@localhost', 'commit.gpgsign=false', 'core.hooksPath=')
    options = [o for setting in settings for o in ('-c', setting)]
    git(*options, 'commit', '-q', '--no-verify', '-m', 'as checked out', cwd=to)

def generated(tree, command):
    "What `command` changes in `tree`."
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    res = subprocess.run(command, cwd=tree, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                         timeout=120)
    if res.returncode: return f'exit code {res.returncode}: {res.stderr.strip()[-500:]}'
    # nbdev-clean only warns about a notebook that it could not read
    if 'Failed to clean' in res.stderr: return res.stderr.strip()[-500:]
    changed = git('status', '--porcelain', cwd=tree).split('\n')
    git('add', '-A', cwd=tree)
    git('reset', '-q', '--hard', cwd=tree)
    return ', '.join(l[3:] for l in changed if l)

def notebooks():
    with tempfile.TemporaryDirectory() as tmp:
        tree = Path(tmp)
        copy_tree(tree)
        python = 'from nbdev.quarto import *; refresh_quarto_yml(); nbdev_sidebar.__wrapped__()'
        for name, command in {
            'nbdev-export leaves everything as it is': ['nbdev-export'],
            'nbdev-clean leaves everything as it is': ['nbdev-clean'],
            'the docs settings and sidebar are those nbdev makes': [sys.executable, '-c', python],
        }.items():
            guarded(name, lambda: (c := generated(tree, command)) and f'changed or failed: {c}')

if __name__ == '__main__':
    guarded('settings.ini equals pyproject.toml', settings)
    guarded('constraints-lowest.txt equals the lower bounds', lowest)
    guarded('README.md equals nbs/index.ipynb', lambda: '' if readme.in_sync() else 'run python .ci/readme.py')
    notebooks()
    sys.exit(failed)

"""Does the wheel hold every file of the package, its own metadata, and nothing else?"""
import sys, zipfile
from pathlib import Path

root = Path(__file__).resolve().parent.parent
names = {n for n in zipfile.ZipFile(sys.argv[1]).namelist() if not n.endswith('/')}
package = {n for n in names if n.startswith('xaaenet/')}
metadata = {n for n in names if n.split('/')[0].startswith('xaaenet-') and n.split('/')[0].endswith('.dist-info')}
kinds = '*.py', '*.css', '*.js', '*.html'
expected = {f.relative_to(root).as_posix() for k in kinds for f in (root/'xaaenet').rglob(k)}
problems = [
    *(f'not of the package: {n}' for n in sorted(names - package - metadata)),
    *(f'not in the checkout: {n}' for n in sorted(package - expected)),
    *(f'missing: {n}' for n in sorted(expected - package)),
]
if not any(n.endswith('/LICENSE') for n in metadata): problems.append('missing: LICENSE')
if problems: sys.exit('\n'.join(problems))

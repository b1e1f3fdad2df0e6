"Read the tables of results/, for the pages that show them."

import re
from pathlib import Path

import pandas as pd
from IPython.display import HTML

results = Path(__file__).parent / 'results'
_rest = r'(-?\d[\d.e+-]*)(?=\s{2,}|$)(?:\s+((?:[≥≤] \S+ ?)+))?(?:\s+(met|MISSED|fails))?(?:\s+(.*))?$'
# names are padded to 58; some end in a number themselves
_about = re.compile(r'---|\d+ bounds missed;')  # the section's name, and the end of the table
_row = re.compile(r'(?!---)(?:(.{58,}?) +|(.*?)\s{2,})' + _rest)


def lines(
    name: str,  # Of the table, without `.txt`
    section: str = '',  # Begin with the line that holds this
) -> list:  # Lines from there to the next section
    "The first line of a table, which says how it was made, and the lines of one section"
    first, *rest = (results / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    start = next((i for i, l in enumerate(rest) if section in l), None)
    if start is None:
        raise ValueError(f'No line of {name}.txt holds {section!r}.')
    end = next((i for i, l in enumerate(rest) if i > start and l.startswith('---')), len(rest))
    return first, rest[start:end]


def _cells(line):
    "Name, value, bound, met and note of a row; a line without a value has only the first"
    m = _row.match(line)
    if m is None: return [line.strip(), '', '', '', '']
    return [(m[1] or m[2]).rstrip(), *(o or '' for o in m.groups()[2:])]


def _chosen(rows, pattern):
    "Rows whose name has `pattern`, below the lines that head them"
    heads, found = [], []
    for row in rows:
        if not row[1]:
            heads = [row] if pattern else heads + [row]
        elif re.search(pattern, row[0]):
            found += [*heads, row]
            heads = []
    return found + ([] if pattern else heads)


def table(
    name: str,  # Of the table, without `.txt`
    section: str = '',  # Begin with the line that holds this
    pattern: str = '',  # Rows whose name has this regular expression alone
):  # HTML; its first column is named by the commit that was measured
    "The rows of a table and the lines that head them, from the line that holds `section` to the next section"
    first, found = lines(name, section)
    said = [l for l in found if l.strip() and not _about.match(l)]
    rows = _chosen([_cells(l) for l in said], pattern)
    if not rows:
        raise ValueError(f'No row of {name}.txt has {pattern!r} in {section!r}.')
    df = pd.DataFrame(
        [[re.sub('^ +', '· ', r[0]), *r[1:]] for r in rows],
        columns=[first.split(', torch')[0], 'value', 'bound', 'met', 'note'],
    )
    return HTML(df.loc[:, (df != '').any()].to_html(index=False, border=0, classes='bench', justify='left'))


def value(
    name: str,  # Of the table, without `.txt`
    row: str,  # What its line begins with
    section: str = '',  # Search from the line that holds this
) -> float:  # The first number behind `row`
    "One number of a table"
    line = next((l for l in lines(name, section)[1] if l.startswith(row)), None)
    if line is None:
        raise ValueError(f'No line of {name}.txt begins with {row!r}.')
    return float(re.search(r'\s([\d.e+-]+)', line[len(row) :])[1])

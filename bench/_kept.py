"Figures of a long study, kept as they come, so that a study that was stopped goes on where it was."

import hashlib, json
from pathlib import Path

here = Path(__file__).parent


def digest_of(*names):
    "Number of the library's code and of the files `names` of this folder"
    files = sorted((here.parent / 'xaaenet').glob('*.py')) + [here / o for o in names]
    return hashlib.sha256(b''.join(o.read_bytes() for o in files)).hexdigest()[:16]


class Kept:
    "Results by name, in `results/.NAME.json`; those of other code are measured again"

    def __init__(self, name, *names):
        self.file, self.digest = here / 'results' / f'.{name}.json', digest_of(*names)
        old = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.found = old.get('found', {}) if old.get('digest') == self.digest else {}

    def __call__(self, what, measure):
        "The figures of `what`, which `measure` gives if they aren't known"
        if what not in self.found:
            self.found[what] = {k: float(v) for k, v in measure().items()}
            self.file.parent.mkdir(exist_ok=True)
            self.file.write_text(json.dumps(dict(digest=self.digest, found=self.found)))
            print(what, {k: round(v, 3) for k, v in self.found[what].items()}, flush=True)
        return self.found[what]

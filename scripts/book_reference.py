"""Make the results of a full run of the book the committed reference.

fathom book run --all --out book-out && python scripts/book_reference.py book-out
"""

import argparse
from pathlib import Path

from fathom.book import catalogue, ledger, runner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the --out folder of the run")
    out = parser.parse_args().out
    results = []
    for question in catalogue.catalogue().values():
        result = runner.fresh(out / "results", question, quick=False)
        if result is None:
            raise SystemExit(f"{question.id} has no result by today's code: run it again")
        results.append(result)
    ledger.commit(results, ledger.read(out / "ledger.json")["seconds"])
    print(f"{sum(len(r['claims']) for r in results)} claims of {len(results)} questions")


if __name__ == "__main__":
    main()

"""`python -m fathom.doctor.corpus`."""

from fathom.doctor.corpus.evaluate import main

if __name__ == "__main__":
    main()

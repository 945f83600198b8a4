"""`python -m dokja` is the `dokja` command."""

from dokja.cli.main import run

if __name__ == "__main__":
    run()

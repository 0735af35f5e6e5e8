"""``python -m kruise``: the manager."""

from kruise.main import run

if __name__ == "__main__":
    run()

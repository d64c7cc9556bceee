"""`python -m glossator` is `glossator`."""

from glossator.cli.app import main

if __name__ == "__main__":
    main()

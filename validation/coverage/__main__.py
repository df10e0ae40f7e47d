"""Write the table: ``python -m validation.coverage``."""

from validation.coverage.run import main

if __name__ == "__main__":
    main()

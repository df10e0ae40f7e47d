"""Write the tables: ``python -m validation.errata``."""

from validation.errata.run import main

if __name__ == "__main__":
    main()

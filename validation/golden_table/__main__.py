"""Write the table: ``python -m validation.golden_table``."""

from validation.golden_table.run import main

if __name__ == "__main__":
    main()

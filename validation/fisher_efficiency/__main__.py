"""Write the tables and the figure: ``python -m validation.fisher_efficiency``."""

from validation.fisher_efficiency.run import main

if __name__ == "__main__":
    main()

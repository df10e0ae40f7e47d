"""Write the tables: ``python -m validation.natural_gradient``."""

from validation.natural_gradient.run import main

if __name__ == "__main__":
    main()

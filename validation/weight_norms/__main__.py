"""Write the tables: ``python -m validation.weight_norms``."""

from validation.weight_norms.run import main

if __name__ == "__main__":
    main()

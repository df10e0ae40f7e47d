"""Write the tables and the figure: ``python -m validation.active_learning``."""

from validation.active_learning.run import main

if __name__ == "__main__":
    main()

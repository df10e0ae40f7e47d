"""Write the tables and figures: ``python -m validation.learning_zone``."""

from validation.learning_zone.run import main

if __name__ == "__main__":
    main()

"""Write the tables and figures: ``python -m validation.forgetting``."""

from validation.forgetting.run import main

if __name__ == "__main__":
    main()

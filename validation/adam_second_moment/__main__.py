"""Write the tables and the figure: ``python -m validation.adam_second_moment``."""

from validation.adam_second_moment.run import main

if __name__ == "__main__":
    main()

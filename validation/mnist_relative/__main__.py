"""Write the tables and figures: ``python -m validation.mnist_relative``."""

from validation.mnist_relative.run import main

if __name__ == "__main__":
    main()

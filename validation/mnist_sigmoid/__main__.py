"""Write the tables and figures: ``python -m validation.mnist_sigmoid``."""

from validation.mnist_sigmoid.run import main

if __name__ == "__main__":
    main()

"""Write the table: ``python -m validation.adversarial_bounds``."""

from validation.adversarial_bounds.run import main

if __name__ == "__main__":
    main()

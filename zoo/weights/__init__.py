"""Where weights come from (`sources`), where they are kept (`cache`), and how a file is read (`readers`)."""

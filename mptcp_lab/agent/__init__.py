"""The agent: the program that runs on lab hosts. `__main__` lists its commands."""

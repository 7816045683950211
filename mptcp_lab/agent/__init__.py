"""The program that runs on lab hosts; `__main__` says what it does there."""

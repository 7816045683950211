"""Render views of ``result.json``: terminal, HTML, JUnit XML, and the comparison of two runs."""

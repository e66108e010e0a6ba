"""A family of methods in a package of its own, found by o2obench through entry points: read it as an example.

``template.py`` holds what the methods share and its version, ``methods.py`` two methods, ``configs/`` their
options by data set, ``windy.py`` an environment and data for it, ``figures.py`` a figure for the report, and
``toy_family.yaml`` a suite of all of these. The entry points stand in ``toy_family-1.0.dist-info``, where
``pip install`` writes those of a ``pyproject.toml``.
"""

"""The algorithms, one file each; the file's name is the algorithm's name.

Outside this folder nobody imports them: ask ``o2obench.registry``. Inside, imports are relative or go
to ``o2obench.agent`` and ``o2obench.kit``.
"""

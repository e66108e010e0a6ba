"""Looking after a results folder: ``doctor`` verifies it, ``clean`` empties it, ``merge`` unites two.

All three read folders and plans only. They follow no link, and touch nothing that they do not recognise.
"""

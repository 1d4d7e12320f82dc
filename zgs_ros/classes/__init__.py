"""Which class a segment is of: groups of phrases that the user fixes, and a number for every other label.

`groups` says what a class is, `file` keeps classes on disk, `registry` gives numbers, and `classifier`
finds the class of each segment.
"""

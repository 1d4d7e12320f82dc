"""What keeps a GPU busy: uploads that nobody waits for, a second stream, CUDA graphs, full batches.

On other devices all of it does nothing but what has to be done anyway.
"""

"""What keeps a GPU busy: uploads that nobody waits for, a second stream, and recorded steps.

On other devices all of it does nothing but what has to be done anyway.
"""

"""What is made from the code and kept beside it: the reference pages and the pictures of ``docs``."""

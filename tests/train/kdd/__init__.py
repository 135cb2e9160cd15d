"""Records of KDD Cup 1999 and NSL-KDD."""

"""Records of KDD Cup 1999 or NSL-KDD in, what each family of models makes of them out."""
